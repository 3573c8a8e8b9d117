"""Every decision of the gate is on record, once, whichever gateway made it and whatever happened to Kafka meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ops.embedded.process import free_port
from ops.settings import Settings
from projections.trail import export, verify
from tests.gateway.guarded import gateway, worker
from tests.gateway.platform import Gateway
from tests.gateway.signing import SECRET, bearer, hs256, saying

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["gateway", "worker"]
SECONDS = 30.0


@pytest.fixture(scope="module")
def guarded(module_settings: Settings) -> Settings:
    """Everybody signs in."""
    own = {"gateway_require_auth": True, "gateway_jwt_secret": SECRET, "gateway_port": free_port(), "soma_audit_tenant": "platform"}
    return module_settings.model_copy(update=own)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(guarded: Settings, gateway: Gateway) -> AsyncIterator[Gateway]:
    async with Gateway(guarded.model_copy(update={"gateway_port": free_port()})) as other:
        await other.until_healthy()
        yield other


def signed(tenant: str, actor: str = "ada", scope: str = "audit:read models:read") -> dict[str, str]:
    return bearer(hs256(saying(tenant=tenant, sub=actor, scope=scope), SECRET.encode()))


async def trail(gateway: Gateway, tenant: str, **wanted: Any) -> list[dict[str, Any]]:
    """The tenant's decisions, but for those about looking at them; the oldest first."""
    answer = await gateway.client.get("/v1/audit", params={"limit": 500, **wanted}, headers=signed(tenant, "auditor"))
    assert answer.status_code == 200, answer.text
    return [each for each in answer.json()["decisions"][::-1] if each["actor"] != "auditor"]


async def on_record(gateway: Gateway, tenant: str, count: int, **wanted: Any) -> list[dict[str, Any]]:
    async with asyncio.timeout(SECONDS):
        while len(found := await trail(gateway, tenant, **wanted)) < count:
            await asyncio.sleep(0.05)
    return found


async def test_two_gateways_make_one_trail_of_a_tenant_without_a_gap(gateway: Gateway, other: Gateway, guarded: Settings) -> None:
    # when two gateways let one tenant's requests in, at the same time
    async def ask(one: Gateway, actor: str) -> None:
        for _ in range(20):
            assert (await one.client.get("/v1/models", headers=signed("acme", actor))).status_code == 200

    await asyncio.gather(ask(gateway, "ada"), ask(other, "bob"))
    # then all of them are on record
    found = await on_record(gateway, "acme", 40, action="model.list")
    assert sorted(each["actor"] for each in found) == ["ada"] * 20 + ["bob"] * 20
    assert {each["outcome"] for each in found} == {"allowed"}
    # and the record is one, numbered without a gap, and whole
    numbers = [entry.number for entry in export(guarded, "acme")]
    assert numbers == list(range(1, len(numbers) + 1))
    verified = verify(guarded)
    assert verified.findings == []
    assert verified.decisions["acme"] >= 40


async def test_who_was_denied_can_have_the_decision_explained_at_once_by_any_gateway(gateway: Gateway, other: Gateway) -> None:
    # given
    about = {"X-Request-Id": "r-17", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    # when
    answer = await gateway.client.get("/v1/tools/adder?secret=parameter", headers=signed("denied") | about)
    assert answer.status_code == 403
    id = answer.json()["decision"]["id"]
    explained = await other.client.get(f"/v1/audit/{id}", headers=signed("denied", "auditor"))
    # then
    assert explained.status_code == 200, explained.text
    said = explained.json()
    assert (said["id"], said["actor"], said["kind"], said["action"], said["outcome"]) == (id, "ada", "user", "tool.read", "denied")
    assert (said["resource"], said["resource_id"], said["rule"]) == ("tool", "adder", answer.json()["decision"]["rule"])
    assert (said["method"], said["route"]) == ("GET", "/v1/tools/{name}")
    assert (said["request_id"], said["trace_id"]) == ("r-17", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert said["reasons"]
    assert "parameter" not in explained.text
    # and nobody of another tenant, nor without the scope, is told
    assert (await other.client.get(f"/v1/audit/{id}", headers=signed("acme", "auditor"))).status_code in (404, 503)
    assert (await other.client.get(f"/v1/audit/{id}", headers=signed("denied", "eve", "models:read"))).status_code == 403


async def test_a_decision_that_there_is_not_is_not_found(gateway: Gateway) -> None:
    for id in ("none", "6f0c9d3a-7c1e-4a52-9c1a-0d5f7c7e8a11", "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400"):
        answer = await gateway.client.get(f"/v1/audit/{id}", headers=signed("acme", "auditor"))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), id


async def test_strangers_are_on_record_and_those_who_knock_without_end_are_counted(gateway: Gateway) -> None:
    # when
    for _ in range(30):
        answer = await gateway.client.get("/v1/models", headers={"Authorization": "Bearer a.canary.token"})
        assert answer.status_code == 401
    # then the first stands for itself, and one more for the number of all others
    found = await on_record(gateway, "platform", 2, outcome="unauthenticated")
    assert [(each["count"], each["first"]) for each in found] == [(1, None), (29, found[0]["id"])]
    assert (found[0]["actor"], found[0]["kind"], found[0]["remote"], found[0]["route"]) == ("", "unknown", "127.0.0.1", None)
    assert "canary" not in str(found)


async def test_a_denial_that_is_repeated_names_the_decision_that_it_repeats(gateway: Gateway) -> None:
    denied = [(await gateway.client.get("/v1/tools", headers=signed("again"))).json()["decision"]["id"] for _ in range(3)]
    assert len(set(denied)) == 1
    assert [each["count"] for each in await on_record(gateway, "again", 2, outcome="denied")] == [1, 2]


async def test_a_list_is_filtered_and_paged(gateway: Gateway) -> None:
    # given
    for actor, path in (("ada", "/v1/models"), ("bob", "/v1/models"), ("bob", "/v1/tools/one"), ("bob", "/v1/tools/two")):
        await gateway.client.get(path, headers=signed("listed", actor))
    whole = await on_record(gateway, "listed", 4)
    # then
    times = {"since": whole[1]["at"], "until": whole[3]["at"]}
    for wanted, expected in (
        ({"actor": "ada"}, whole[:1]),
        ({"outcome": "denied"}, whole[2:]),
        ({"action": "tool.read", "resource_id": "two"}, whole[3:]),
        ({"resource": "model"}, whole[:2]),
        (times, whole[1:3]),
    ):
        assert await trail(gateway, "listed", **wanted) == expected, wanted
    # and page by page it is the same
    pages, cursor = list[str](), dict[str, str]()
    while True:
        wanted = {"limit": "2", "actor": "bob"} | cursor
        page = (await gateway.client.get("/v1/audit", params=wanted, headers=signed("listed", "auditor"))).json()
        pages += [each["id"] for each in page["decisions"]]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == [each["id"] for each in whole[:0:-1]]
    wrong = await gateway.client.get("/v1/audit", params={"cursor": "x"}, headers=signed("listed", "auditor"))
    assert (wrong.status_code, wrong.json()["code"]) == (400, "malformed")
