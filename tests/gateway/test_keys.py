"""API keys through gateways and the worker that users run."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from gateway.problems import Unauthenticated
from gateway.secret import Wish
from gateway.v1.access_shapes import Key, KeyAccepted, KeyList, KeyWithSecret
from ops import kafka
from ops.embedded.process import free_port
from ops.log import Log
from ops.settings import Settings
from schemas.contract import topics
from tests.faults.cluster import Process
from tests.gateway.keys import PEPPER, api, bearer, gate, gateway, good, issue, other, peppered, worker
from tests.gateway.platform import Gateway

__all__ = ["api", "gateway", "other", "peppered", "worker"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_is_issued_and_its_secret_is_shown_once(api: httpx.AsyncClient, gateway: Gateway) -> None:
    # when
    answer = await api.post("/v1/keys", json={"name": "nightly", "scopes": ["sessions:write", "sessions:read"]})
    # then
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    key = KeyWithSecret.model_validate_json(answer.content)
    assert key.secret
    assert (key.name, key.status, key.scopes, key.rotation) == ("nightly", "active", ["sessions:read", "sessions:write"], 1)
    # and it proves its tenant, itself, and its scopes
    found = await gate(gateway).principal(key.secret)
    assert (found.tenant, found.actor, found.kind) == ("default", f"key:{key.id}", "key")
    assert found.scopes == {"sessions:read", "sessions:write"}
    # and nobody is shown it again
    for path in (answer.headers["location"], "/v1/keys"):
        assert "soma_" not in (await api.get(path)).text
    shown = Key.model_validate_json((await api.get(answer.headers["location"], params={"position": key.position})).content)
    assert shown.id == key.id


async def test_who_repeats_the_request_is_shown_the_same_secret(api: httpx.AsyncClient) -> None:
    # given
    key, body = {"Idempotency-Key": "issue-1"}, {"name": "repeated"}
    first = await api.post("/v1/keys", json=body, headers=key)
    # when
    again = await api.post("/v1/keys", json=body, headers=key)
    # then
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    reused = await api.post("/v1/keys", json={"name": "other"}, headers=key)
    assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")


async def test_a_rotation_gives_another_secret_and_the_former_one_is_good_for_the_overlap(api: httpx.AsyncClient, gateway: Gateway) -> None:
    first = await issue(api)
    # when
    header = {"Idempotency-Key": "rotate-1"}
    answer = await api.post(f"/v1/keys/{first.id}/rotate", json={"overlap_seconds": 600}, headers=header)
    second = KeyWithSecret.model_validate_json(answer.content)
    # then
    assert (answer.status_code, second.rotation, second.secret != first.secret) == (200, 2, True)
    assert second.overlap_until
    assert [await good(gateway, first.secret), await good(gateway, second.secret)] == [True, True]
    again = await api.post(f"/v1/keys/{first.id}/rotate", json={"overlap_seconds": 600}, headers=header)
    assert again.json() == answer.json()
    # when it leaked
    third = KeyWithSecret.model_validate_json((await api.post(f"/v1/keys/{first.id}/rotate", json={"overlap_seconds": 0})).content)
    # then only the newest is good
    assert [await good(gateway, each.secret) for each in (first, second, third)] == [False, False, True]
    assert third.overlap_until is None


async def test_unknown_expired_revoked_and_superseded_get_the_same_answer(api: httpx.AsyncClient, gateway: Gateway) -> None:
    # given
    expiring = await issue(api, expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    revoked, superseded = await issue(api), await issue(api)
    await api.delete(f"/v1/keys/{revoked.id}")
    await api.post(f"/v1/keys/{superseded.id}/rotate", json={"overlap_seconds": 0})
    unknown = gate(gateway).pepper
    assert unknown
    assert expiring.expires_at
    await asyncio.sleep(max(0.0, (expiring.expires_at - datetime.now(UTC)).total_seconds()))
    # when, then
    wish = Wish("default", "nobody", "none", "none")
    said = set()
    for secret in (expiring.secret, revoked.secret, superseded.secret, unknown.secret(unknown.key(wish), wish)):
        assert secret
        with pytest.raises(Unauthenticated) as refused:
            await gate(gateway).principal(secret)
        said.add(str(refused.value.document()))
    assert len(said) == 1


async def test_the_use_of_a_key_is_noted_once(api: httpx.AsyncClient, gateway: Gateway, other: Gateway) -> None:
    key = await issue(api)
    assert key.used_at is None
    # when it is used, again and again, in two gateways
    for _ in range(5):
        assert await good(gateway, key.secret)
        assert await good(other, key.secret)
    # then
    async with asyncio.timeout(20):
        while (shown := Key.model_validate_json((await api.get(f"/v1/keys/{key.id}")).content)).used_at is None:
            await asyncio.sleep(0.02)
    assert await good(gateway, key.secret)
    assert Key.model_validate_json((await api.get(f"/v1/keys/{key.id}")).content) == shown


async def test_keys_are_listed_by_pages_and_those_that_are_worth_nothing_on_demand(api: httpx.AsyncClient) -> None:
    made = [await issue(api, f"page {number}") for number in range(3)]
    await api.delete(f"/v1/keys/{made[0].id}")

    async def listed(**query: str) -> list[str]:
        seen, cursor = list[str](), dict[str, str]()
        while True:
            page = KeyList.model_validate_json((await api.get("/v1/keys", params={"limit": "2", **query, **cursor})).content)
            seen += [key.id for key in page.keys]
            if page.next_cursor is None:
                return seen
            cursor = {"cursor": page.next_cursor}

    active, all_of_them = await listed(), await listed(inactive="true")
    assert active == sorted(active)
    assert {key.id for key in made[1:]} <= set(active)
    assert (made[0].id in active, made[0].id in all_of_them) == (False, True)
    assert (await api.get("/v1/keys", params={"cursor": "No Id"})).json()["code"] == "malformed"


async def test_what_there_is_not_is_not_found(api: httpx.AsyncClient) -> None:
    answers = [
        await api.get("/v1/keys/aaaaaaaaaaaaaaaa"),
        await api.delete("/v1/keys/aaaaaaaaaaaaaaaa"),
        await api.post("/v1/keys/aaaaaaaaaaaaaaaa/rotate", json={}),
        await api.delete("/v1/keys/No%20Id"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 4


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "body.name"),
        ({"name": "two\nlines"}, "body.name"),
        ({"name": "x" * 129}, "body.name"),
        ({"scopes": ["Sessions"]}, "body.scopes.0"),
        ({"scopes": ["a"] * 33}, "body.scopes"),
        ({"expires_at": "2100-01-01T00:00:00"}, "body.expires_at"),
        ({"expires_at": 4102444800}, "body.expires_at"),
        ({"secret": "mine"}, "body.secret"),
    ],
)
async def test_what_cannot_be_used_is_refused_by_field(api: httpx.AsyncClient, wrong: dict[str, Any], field: str) -> None:
    answer = await api.post("/v1/keys", json={"name": "wrong"} | wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_a_key_that_would_be_past_its_time_is_declined(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/keys", json={"name": "late", "expires_at": "2020-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["refusal"]) == (409, "expired")


async def test_who_does_not_wait_gets_the_secret_by_asking_again(api: httpx.AsyncClient, gateway: Gateway) -> None:
    answer = await api.post("/v1/keys", json={"name": "later"}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    accepted = KeyAccepted.model_validate_json(answer.content)
    # when
    again = await api.post("/v1/keys", json={"name": "later"}, headers={"Idempotency-Key": accepted.idempotency_key})
    # then
    assert (again.status_code, again.json()["id"]) == (201, accepted.id)
    assert await good(gateway, again.json()["secret"])


async def test_a_gateway_without_a_pepper_says_what_it_lacks(api: httpx.AsyncClient, peppered: Settings) -> None:
    key = await issue(api)
    async with Gateway(peppered.model_copy(update={"soma_keys_pepper": None, "gateway_port": free_port()})) as bare:
        await bare.until_healthy()
        answers = [await bare.client.post("/v1/keys", json={"name": "none"}), await bare.client.get("/v1/keys", headers=bearer(key.secret))]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "cannot_verify")
        assert "SOMA_KEYS_PEPPER" in answer.json()["detail"]


async def test_a_gateway_with_another_pepper_shows_no_secret_and_says_so_in_its_log(
    api: httpx.AsyncClient, peppered: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    key = await issue(api)
    async with Gateway(peppered.model_copy(update={"soma_keys_pepper": PEPPER[::-1], "gateway_port": free_port()})) as stranger:
        await stranger.until_healthy()
        # when
        answer = await stranger.client.get("/v1/keys", headers=bearer(key.secret))
    # then
    assert answer.status_code == 401
    assert f"key {key.id} was made with another pepper" in caplog.text


async def test_no_secret_is_in_any_topic_table_or_log(
    api: httpx.AsyncClient, gateway: Gateway, worker: Process, peppered: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # given secrets that were issued, rotated, shown again, used, mistyped and revoked
    caplog.set_level("DEBUG")
    header = {"Idempotency-Key": "canary"}
    key = await issue(api, "canary")
    rotated = (await api.post(f"/v1/keys/{key.id}/rotate", json={}, headers=header)).json()
    assert (await api.post(f"/v1/keys/{key.id}/rotate", json={}, headers=header)).json() == rotated
    secrets = [str(key.secret), str(rotated["secret"])]
    for secret in (*secrets, secrets[0][:-1]):
        await good(gateway, secret)
        for headers in (bearer(secret), {"X-API-Key": secret}):
            await api.get("/v1/keys", headers=headers)
    last = await api.delete(f"/v1/keys/{key.id}")
    # when everything that is kept is read
    kept = {"the log of this process": caplog.text.encode(), "the worker's log": worker.written().encode()}
    log, names = Log(kafka.confluent(peppered)), topics()
    for name in names:
        for partition in range(log.partitions(name)):
            records = await asyncio.to_thread(lambda *place: list(log.read(*place)), name, partition, *log.bounds(name, partition))
            kept[f"{name}/{partition}"] = b"".join(b"%r%r%r" % (record.key, record.value, record.headers) for record in records)
    kept |= await asyncio.to_thread(tables, str(peppered.database_url))
    # then the canary's records are there, and nothing that would make it sing
    assert last.status_code == 200
    assert key.id.encode() in kept["soma.access.events/0"]
    proofs = [secret.split("_")[2][:32].encode() for secret in secrets] + [PEPPER.encode()]
    assert [place for place, held in kept.items() for proof in proofs if proof in held] == []


def tables(database: str) -> dict[str, bytes]:
    """Every table of the read model, as COPY writes it."""
    with psycopg.connect(database.replace("postgresql+psycopg:", "postgresql:")) as connection:
        found = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        names = [f'"{schema}"."{table}"' for schema, table in found]
        kept = dict[str, bytes]()
        for name in names:
            with connection.cursor().copy(f"COPY {name} TO STDOUT") as copy:
                kept[name] = b"".join(map(bytes, copy))
    return kept
