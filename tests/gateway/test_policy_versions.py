"""Versions of the platform's policies, over a real broker: published, tried, activated in every gateway, and gone back from."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ops import rego
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import environment
from tests.gateway.guarded import gateway, worker
from tests.gateway.platform import Gateway
from tests.gateway.signing import SECRET, bearer, hs256, saying
from tests.opa import Opa

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["gateway", "worker"]
SECONDS = 30.0
CLOSED = {"gate.rego": 'package soma.gate\n\ndecision := {"allow": false, "rule": "closed", "reasons": ["Come back tomorrow."]}\n'}
OPERATOR, OTHER = "platform", "acme"


@pytest.fixture(scope="module")
def guarded(module_settings: Settings) -> Settings:
    """Everybody signs in, and one tenant runs the platform."""
    own = {"gateway_require_auth": True, "gateway_jwt_secret": SECRET, "gateway_port": free_port(), "soma_policy_tenant": OPERATOR}
    return module_settings.model_copy(update=own)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(guarded: Settings, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Another gateway of the platform, whose policies an OPA server evaluates."""
    place = tmp_path_factory.mktemp("opa")
    with Opa(rego.SHIPPED, place / "opa.log") as opa:
        own = {"gateway_port": free_port(), "soma_data_dir": place, "opa_url": opa.url, "policy_seconds": 10}
        async with Gateway(guarded.model_copy(update=own)) as served:
            await served.until_healthy()
            yield served


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def shipped_again(gateway: Gateway) -> AsyncIterator[None]:
    """Whatever a test activates, the next one begins with the shipped policies."""
    yield
    if (await api(gateway, "GET", "/v1/policies")).json()["active"] != "shipped":
        await activate(gateway, "shipped")


def signed(tenant: str = OPERATOR, actor: str = "ada", scope: str = "*") -> dict[str, str]:
    return bearer(hs256(saying(tenant=tenant, sub=actor, scope=scope), SECRET.encode()))


async def api(gateway: Gateway, method: str, path: str, who: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return await gateway.client.request(method, path, headers=who or signed(), **more)


def terms(**tenants: Any) -> dict[str, Any]:
    """The shipped policies with terms for tenants, as they are published."""
    found = rego.load(None)
    soma = found.data["soma"]
    return {"modules": found.modules, "data": {"soma": soma | {"tenants": soma["tenants"] | tenants}}}


async def publish(gateway: Gateway, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await api(gateway, "POST", "/v1/policies", json=body | more)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def activate(gateway: Gateway, version: str, **more: Any) -> dict[str, Any]:
    answer = await api(gateway, "POST", f"/v1/policies/{version}/activate", json=more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def start(gateway: Gateway, tenant: str = OTHER, **limits: int) -> httpx.Response:
    body = {"model": "echo"} | ({"limits": limits} if limits else {})
    return await api(gateway, "POST", "/v1/sessions", signed(tenant), json=body)


async def becomes(ask: Callable[[], Any], status: int) -> httpx.Response:
    """The answer, once it has this status: gateways follow the topic each for itself."""
    async with asyncio.timeout(SECONDS):
        while (answer := await ask()).status_code != status:
            await asyncio.sleep(0.02)
    found: httpx.Response = answer
    return found


async def test_a_version_decides_in_every_gateway_once_it_is_active_and_is_named_by_what_it_decides(
    gateway: Gateway, served: Gateway
) -> None:
    # given a version that bounds one tenant
    made = await publish(gateway, terms(acme={"ceilings": {"tokens": 1000}}), note="Ceilings for acme.")
    name = f"{made['version']}@{made['digest']}"
    assert (made["active"], made["note"], made["published_by"]) == (False, "Ceilings for acme.", "ada")
    for each in (gateway, served):
        assert (await start(each)).status_code == 201, "what is published decides nothing"
    # when
    shelf = await activate(gateway, made["version"], reason="Reviewed.")
    # then
    assert (shelf["active"], shelf["activations"][0]["reason"]) == (made["version"], "Reviewed.")
    for each in (gateway, served):
        denied = (await becomes(lambda each=each: start(each), 403)).json()  # type: ignore[misc]
        assert (denied["decision"]["rule"], denied["decision"]["version"]) == ("limits", name)
        assert (await api(each, "GET", f"/v1/audit/{denied['decision']['id']}", signed(OTHER))).json()["version"] == name
        started = await start(each, tokens=1000)
        assert started.status_code == 201
        await api(each, "GET", f"/v1/sessions/{started.json()['id']}?position={started.json()['position']}", signed(OTHER))
        [first] = await each.app.state.parts.reader.page(started.json()["id"], OTHER, -1, 1)
        assert (first.event.meta.policy or "").split(" ")[:3] == ["allow", "sessions:write", name]
        assert (await start(each, OPERATOR)).status_code == 201, "others have no ceiling"
    # when it is gone back from
    await activate(served, "shipped")
    # then
    for each in (gateway, served):
        await becomes(lambda each=each: start(each), 201)  # type: ignore[misc]


async def test_what_does_not_compile_is_refused_with_the_place_and_nothing_is_on_record(gateway: Gateway, served: Gateway) -> None:
    before = (await api(gateway, "GET", "/v1/policies")).json()["versions"]
    wrong = {"modules": {"gate.rego": "package soma.gate\n\ndecision := {\n"}, "data": {}}
    outside = {"modules": {"gate.rego": "package soma.gate\n\ndecision := http.send({})\n"}, "data": {}}
    for each in (gateway, served):
        for path in ("/v1/policies", "/v1/policies/check"):
            # when
            answers = [await api(each, "POST", path, json=body) for body in (wrong, outside)]
            # then
            assert [answer.status_code for answer in answers] == [422, 422]
            assert answers[0].json()["errors"][0] == {"field": "modules.gate.rego:3:13", "problem": "this is unclosed"}
            assert answers[1].json()["errors"][0]["field"] == "modules.gate.rego:3:13"
    assert (await api(gateway, "GET", "/v1/policies")).json()["versions"] == before


async def test_only_the_tenant_that_runs_the_platform_keeps_its_policies(gateway: Gateway) -> None:
    routes = [("GET", "/v1/policies"), ("GET", "/v1/policies/shipped"), ("POST", "/v1/policies/shipped/backtest")]
    writes = [("/v1/policies", terms()), ("/v1/policies/check", terms()), ("/v1/policies/shipped/activate", {})]
    for who, rule in ((signed(OTHER), "operator"), (signed(scope="sessions:read"), "scope")):
        answers = [await api(gateway, method, path, who) for method, path in routes]
        answers += [await api(gateway, "POST", path, who, json=body) for path, body in writes]
        assert [(answer.status_code, answer.json()["decision"]["rule"]) for answer in answers] == [(403, rule)] * len(answers)


async def test_a_version_that_keeps_everybody_out_keeps_nobody_from_going_back(
    gateway: Gateway, served: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    # given
    closed = await publish(gateway, {"modules": CLOSED, "data": {}})
    await activate(gateway, closed["version"])
    answered = time.perf_counter()
    for each in (served, gateway):
        await becomes(lambda each=each: api(each, "GET", "/v1/sessions"), 403)  # type: ignore[misc]
        with capsys.disabled():
            print(f"\nactive in {'another gateway' if each is served else 'both'} after {time.perf_counter() - answered:.3f} s")
    # when
    answer = await api(gateway, "POST", "/v1/policies/shipped/activate")
    # then
    assert answer.status_code == 200
    for each in (gateway, served):
        await becomes(lambda each=each: api(each, "GET", "/v1/sessions"), 200)  # type: ignore[misc]


async def test_a_version_published_twice_is_one_and_an_answer_is_given_again_by_its_key(gateway: Gateway) -> None:
    body, key = terms(one={"four_eyes": True}), {"Idempotency-Key": "twice"}
    first = await api(gateway, "POST", "/v1/policies", signed() | key, json=body)
    again = await api(gateway, "POST", "/v1/policies", signed() | key, json=body)
    same = await api(gateway, "POST", "/v1/policies", json=body)
    assert [answer.status_code for answer in (first, again, same)] == [201, 201, 200]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["version"] == again.json()["version"] == same.json()["version"]
    read = (await api(gateway, "GET", f"/v1/policies/{first.json()['version']}")).json()
    assert (read["modules"], read["data"]) == (body["modules"], body["data"])
    assert (await api(gateway, "GET", "/v1/policies/shipped")).json()["modules"] == rego.load(None).modules


@pytest.mark.parametrize("version", ["0", "999", "01", "none", "%2e%2e"])
async def test_a_version_that_is_not_there_cannot_be_had(gateway: Gateway, version: str) -> None:
    for method, path in (("GET", ""), ("POST", "/activate"), ("POST", "/backtest")):
        assert (await api(gateway, method, f"/v1/policies/{version}{path}")).status_code == 404


async def test_policies_of_too_many_bytes_are_refused(gateway: Gateway) -> None:
    answer = await api(gateway, "POST", "/v1/policies", json={"modules": {"gate.rego": "#" * (128 << 10)}, "data": {}})
    assert answer.status_code == 422
    assert "are allowed" in answer.text


@pytest.mark.parametrize(
    "since", ["0001-01-01T00:00:00%2B23:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-23:00", "2026-01-01T00:00:00", "x"]
)
async def test_a_time_that_cannot_have_been_is_told_so(gateway: Gateway, since: str) -> None:
    answer = await api(gateway, "POST", f"/v1/policies/shipped/backtest?since={since}")
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("cursor", ["e9-1", "e0-999999999999999999"])
async def test_a_place_behind_the_record_has_nothing_to_try(gateway: Gateway, cursor: str) -> None:
    answer = await api(gateway, "POST", f"/v1/policies/shipped/backtest?cursor={cursor}&limit=1")
    assert answer.status_code == 200, answer.text


async def tried(gateway: Gateway, version: str, **query: Any) -> dict[str, Any]:
    """All pages of a backtest, as one."""
    whole, cursor = dict[str, Any](), dict[str, Any]()
    while True:
        answer = await api(gateway, "POST", f"/v1/policies/{version}/backtest", params=query | cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        whole["examined"] = whole.get("examined", 0) + page["examined"]
        whole["changes"] = whole.get("changes", []) + page["changes"]
        whole["changed"] = whole.get("changed", 0) + page["changed"]
        whole["not_kept"] = whole.get("not_kept", 0) + page["left_out"]["not_kept"]
        if page["next_cursor"] is None:
            return whole
        cursor = {"cursor": page["next_cursor"]}


async def recorded(gateway: Gateway, tenant: str, count: int) -> None:
    """Waits until the tenant's decisions are on record."""
    async with asyncio.timeout(SECONDS):
        while len((await api(gateway, "GET", "/v1/audit", signed(tenant), params={"limit": 500})).json()["decisions"]) < count:
            await asyncio.sleep(0.05)


async def test_a_version_that_is_tried_on_its_own_decisions_changes_none_of_them(gateway: Gateway, served: Gateway) -> None:
    # given decisions of all kinds by one version
    made = await publish(gateway, terms(own={"models": ["echo"], "ceilings": {"tokens": 10, "calls": 3}, "four_eyes": True}))
    await activate(gateway, made["version"])
    await becomes(lambda: start(served, "own"), 403)
    for each in (gateway, served):
        for limits in ({}, {"tokens": 10}, {"tokens": 10, "calls": 3}, {"tokens": 11, "calls": 3}):
            answer = await start(each, "own", **limits)
        assert (await api(each, "GET", "/v1/sessions", signed("own", "bob", scope="sessions:read"))).status_code == 200
        assert (await api(each, "GET", "/v1/tools", signed("own", "bob", scope="sessions:read"))).status_code == 403
        assert (await api(each, "GET", "/v1/sessions/none/calls", signed("own"))).status_code == 404
    since = answer.headers["date"]
    await recorded(gateway, "own", 12)
    # when
    for each in (gateway, served):
        same = await tried(each, made["version"])
        mine = [change for change in same["changes"] if change["from_version"] == f"{made['version']}@{made['digest']}"]
        # then
        assert same["examined"] > 10, since
        assert (mine, same["not_kept"]) == ([], 0)


async def test_a_candidate_says_which_decisions_would_be_others_by_which_rule_and_goes_on_where_it_stopped(gateway: Gateway) -> None:
    # given decisions of the shipped policies
    for _ in range(5):
        assert (await start(gateway, "tried")).status_code == 201
    assert (await start(gateway, "tried", tokens=5)).status_code == 201
    await recorded(gateway, "tried", 6)
    candidate = await publish(gateway, terms(tried={"ceilings": {"tokens": 10}}))
    # when
    whole, paged = await tried(gateway, candidate["version"]), await tried(gateway, candidate["version"], limit=3)
    # then
    mine = [change for change in whole["changes"] if change["tenant"] == "tried"]
    assert [(change["from"], change["to"], change["rule"]) for change in mine] == [("allowed", "denied", "limits")] * 5
    assert mine[0]["reasons"] == ["Ask for `limits` of at most 10 tokens."]
    assert [each["id"] for each in paged["changes"] if each["tenant"] == "tried"] == [each["id"] for each in mine]
    # and it decided nothing
    assert (await start(gateway, "tried")).status_code == 201
    # when it is asked for what was decided later
    later = await tried(gateway, candidate["version"], since="2100-01-01T00:00:00Z")
    # then
    assert later["examined"] == 0


class Soma:
    """`soma`, as an operator of this platform calls it."""

    def __init__(self, settings: Settings) -> None:
        self.environment = environment(settings) | {"SOMA_TOKEN": signed()["Authorization"].removeprefix("Bearer ")}

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "ops.cli", *arguments]
        pipe = asyncio.subprocess.PIPE
        done = await asyncio.create_subprocess_exec(*command, env=os.environ | self.environment, stdout=pipe, stderr=pipe)
        out, err = await done.communicate()
        assert done.returncode is not None
        return done.returncode, (out + err).decode()


async def test_the_command_line_publishes_tries_and_activates(gateway: Gateway, guarded: Settings, tmp_path: Path) -> None:
    # given
    soma = Soma(guarded)
    for name, text in CLOSED.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "data.json").write_text("{}")
    await recorded(gateway, OPERATOR, 1)
    # when, then
    assert (await soma("policy", "publish", str(tmp_path), "--check"))[0] == 0
    code, said = await soma("policy", "publish", str(tmp_path), "--note", "closed for now")
    assert code == 0, said
    version = said.split()[1].rstrip(",")
    assert "Come back" in (await soma("policy", "show", version))[1]
    code, said = await soma("policy", "backtest", version, "--most", "20")
    assert (code, "allowed → denied  by closed" in said, "stopped before the end" in said) == (1, True, True), said
    assert (await soma("policy", "activate", version))[0] == 0
    await becomes(lambda: api(gateway, "GET", "/v1/sessions"), 403)
    # when nobody can be let in, then who reaches Kafka goes back
    code, said = await soma("policy", "activate", "shipped", "--past-gateway", "--reason", "locked out")
    assert code == 0, said
    await becomes(lambda: api(gateway, "GET", "/v1/sessions"), 200)
    last = (await api(gateway, "GET", "/v1/policies")).json()["activations"][0]
    assert (last["version"], last["by"].partition(":")[0], last["reason"]) == ("shipped", "operator", "locked out")
    assert "It decides already" in (await soma("policy", "activate", "shipped", "--past-gateway"))[1]
    assert "closed for now" in (await soma("policy", "list"))[1]
