"""Who shows an API key: let in by any gateway, as long as it is good, and no second longer."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress

import httpx
import pytest

from gateway.v1.access_shapes import Key
from ops.settings import Settings
from tests.faults.cluster import Process, environment
from tests.gateway.keys import api, bearer, gateway, good, issue, other, peppered, worker
from tests.gateway.platform import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["api", "gateway", "other", "peppered", "worker"]


class Soma:
    """`soma …` in a terminal, beside the gateway where everybody has to sign in."""

    def __init__(self, settings: Settings) -> None:
        self.environment = environment(settings)

    async def __call__(self, *arguments: str) -> str:
        """What it prints. Raises AssertionError with what it complains of."""
        command = [sys.executable, "-m", "ops.cli", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=self.environment, stdout=PIPE, stderr=PIPE)
        printed, complained = await process.communicate()
        assert process.returncode == 0, complained.decode()
        return printed.decode().strip()


@pytest.fixture
def soma(other: Gateway) -> Soma:
    return Soma(other.app.state.parts.settings)


async def test_a_key_opens_a_gate_that_is_shut_by_either_header(api: httpx.AsyncClient, other: Gateway) -> None:
    # given
    key = await issue(api, scopes=["keys:admin"])
    assert key.secret
    # when, then
    nobody = await other.client.get("/v1/keys")
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, 'Bearer realm="soma"')
    for headers in (bearer(key.secret), {"X-API-Key": key.secret}):
        assert (await other.client.get("/v1/keys", headers=headers)).status_code == 200
    both = await other.client.get("/v1/keys", headers=bearer(key.secret) | {"X-API-Key": key.secret})
    assert (both.status_code, both.json()["code"]) == (400, "malformed")
    # and what is done with it is on record as its doing
    made = await other.client.post("/v1/keys", json={"name": "made by a key"}, headers=bearer(key.secret))
    assert made.status_code == 201
    assert made.json()["issued_by"] == f"key:{key.id}"


async def test_an_open_gate_takes_no_key_that_is_not_good_and_looks_at_nothing_else(api: httpx.AsyncClient) -> None:
    key = await issue(api)
    assert key.secret
    await api.delete(f"/v1/keys/{key.id}")
    revoked, mistyped, something = [
        await api.get("/v1/keys", headers=bearer(text)) for text in (key.secret, key.secret[:-1], "sk-whatever-a-client-must-send")
    ]
    assert (revoked.status_code, revoked.json()["detail"]) == (401, "This API key is not good.")
    assert mistyped.status_code == 401
    assert something.status_code == 200


async def test_a_key_gives_no_more_than_it_has(api: httpx.AsyncClient, other: Gateway) -> None:
    # given
    soon = {"expires_at": "2100-01-01T00:00:00Z"}
    narrow, wide = await issue(api, scopes=["a", "keys:admin"], **soon), await issue(api, scopes=["a", "c"], **soon)
    holder = bearer(narrow.secret)
    # when
    refused = [
        await other.client.post("/v1/keys", json={"name": "more", "scopes": ["a", "c"], **soon}, headers=holder),
        await other.client.post("/v1/keys", json={"name": "longer", "scopes": ["a"]}, headers=holder),
        await other.client.post(f"/v1/keys/{wide.id}/rotate", json={}, headers=holder),
    ]
    allowed = [
        await other.client.post("/v1/keys", json={"name": "less", "scopes": ["a"], **soon}, headers=holder),
        await other.client.post(f"/v1/keys/{narrow.id}/rotate", json={}, headers=holder),
    ]
    # then
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "exceeds")] * 3
    assert [answer.status_code for answer in allowed] == [201, 200]


async def test_an_idempotency_key_is_its_callers_own(api: httpx.AsyncClient, other: Gateway) -> None:
    # given
    one, two = await issue(api), await issue(api)
    asked = {"Idempotency-Key": "anybody's"}
    # when two callers use the same one
    first, second, again = [
        (await other.client.post("/v1/keys", json={"name": "mine"}, headers=asked | bearer(key.secret))).json() for key in (one, two, one)
    ]
    # then each has a key of their own, and nobody is shown the other's
    assert first["id"] != second["id"]
    assert first["secret"] != second["secret"]
    assert again == first


async def test_a_revocation_takes_effect_in_another_gateway_within_a_second(
    api: httpx.AsyncClient, other: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    for _ in range(10):
        key = await issue(api)
        assert await good(other, key.secret), "a key is good at once wherever the log is read"
        # when
        assert (await api.delete(f"/v1/keys/{key.id}", params={"reason": "leaked"})).json()["status"] == "revoked"
        answered = time.perf_counter()
        # then
        while await good(other, key.secret):
            await asyncio.sleep(0.001)
        took.append(time.perf_counter() - answered)
    with capsys.disabled():
        print(f"\nrevoked in another gateway after {max(took) * 1000:.1f} ms at most (10 keys), counted from the answer")


async def test_a_stream_ends_within_a_second_of_its_keys_end(
    api: httpx.AsyncClient, other: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a session that is followed with a key, and by somebody else
    session = (await api.post("/v1/sessions", json={"model": "echo", "input": "hello"})).json()
    took, known = [], {"position": session["position"]}
    for end in ("revoke", "rotate"):
        key = await issue(api)
        path = f"/v1/sessions/{session['id']}/events"
        async with other.client.stream("GET", path, params=known, headers=bearer(key.secret), timeout=60) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            while "waiting for what follows" not in await anext(lines):
                pass
            # when the key is revoked, or its secret is replaced at once
            if end == "revoke":
                await api.delete(f"/v1/keys/{key.id}")
            else:
                await api.post(f"/v1/keys/{key.id}/rotate", json={"overlap_seconds": 0})
            answered = time.perf_counter()
            # then the stream ends
            async with asyncio.timeout(20):
                with suppress(StopAsyncIteration):
                    while True:
                        await anext(lines)
            took.append(time.perf_counter() - answered)
    with capsys.disabled():
        print(f"\nstreams ended {', '.join(f'{seconds * 1000:.0f} ms' for seconds in took)} after their key")


async def test_a_key_can_be_issued_rotated_and_revoked_from_a_terminal(
    other: Gateway, peppered: Settings, worker: Process, soma: Soma
) -> None:
    # given that nobody can sign in yet, and an operator who reaches Kafka
    first = await soma("keys", "bootstrap", "first", "--scope", "keys:admin")
    assert await good(other, first)
    # when they sign in with it
    soma.environment["SOMA_TOKEN"] = first
    second = await soma("keys", "issue", "nightly", "--scope", "keys:admin")
    listed = await soma("keys", "list")
    id = second.split("_")[1]
    third = await soma("keys", "rotate", id, "--overlap", "0")
    # then
    assert [await good(other, secret) for secret in (second, third)] == [False, True]
    assert f"{id}  active" in listed
    assert first not in listed
    assert "revoked" in await soma("keys", "revoke", id, "--reason", "tidy")
    assert not await good(other, third)
    # and it is on record who issued the first
    shown = Key.model_validate_json(await soma("keys", "show", first.split("_")[1], "--json"))
    assert shown.issued_by.startswith("operator:")
    # and without it nobody gets in
    del soma.environment["SOMA_TOKEN"]
    with pytest.raises(AssertionError, match="It is not known who asks"):
        await soma("keys", "list")
