"""Routes name what they do, and do it only for those whom the policies let in."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from fastapi.routing import APIRoute
from msgspec.structs import replace

from gateway.app import create_app
from gateway.auth import ANONYMOUS, Principal, principal
from gateway.engine import engine
from gateway.needs import action_of
from gateway.policy import Policy
from gateway.positions import Place
from gateway.reader import Stored
from gateway.v1.call import asker
from ops import rego
from ops.settings import Settings
from schemas.contract import ROOT
from schemas.types.session import SessionEvent
from tests.gateway.platform import Platform, last_event
from tests.opa import Opa

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = {"/health", "/health/live", "/metrics", "/problems/{code}", "/docs", "/docs/oauth2-redirect"}
"""What everybody may ask."""


def api_routes(router: Any) -> Iterator[APIRoute]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from api_routes(route.original_router)


async def test_every_route_names_an_action_that_the_policies_know() -> None:
    # given
    known = rego.load(None).data["soma"]["actions"]
    routes = [route for route in api_routes(create_app(Settings())) if route.path.removeprefix("/v1") not in PUBLIC]
    # then
    assert len(routes) >= 19
    assert {route.path: action_of(route) for route in routes if action_of(route) not in known} == {}
    assert set(known) <= {action_of(route) for route in routes}, "an action that no route names is a word without meaning"


@contextmanager
def calling(platform: Platform, who: Principal) -> Iterator[None]:
    """Everybody is this one, as long as the block lasts."""
    overrides = platform.gateway.app.dependency_overrides
    overrides[principal] = lambda: who
    yield
    del overrides[principal]


@asynccontextmanager
async def asking(platform: Platform, settings: Settings) -> AsyncIterator[None]:
    """The gateway asks the engine that these settings name, as long as the block lasts."""
    state = platform.gateway.app.state
    parts = state.parts
    async with engine(settings) as other:
        state.parts = dataclasses.replace(parts, policy=Policy(other, fail_open=False, seconds=settings.policy_seconds))
        yield
        state.parts = parts


async def test_who_lacks_the_scope_is_told_which_rule_said_so_and_nothing_is_sent(platform: Platform) -> None:
    reader = Principal("default", "ann", scopes=frozenset({"sessions:read"}))
    before = (await platform.client.get("/v1/sessions")).json()["sessions"]
    with calling(platform, reader):
        # when
        answer = await platform.client.post("/v1/sessions", json={"model": "echo"})
        listed = await platform.client.get("/v1/sessions")
    # then
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["detail"]) == (403, "forbidden", "This takes the scope sessions:write.")
    assert (problem["decision"]["action"], problem["decision"]["rule"]) == ("session.start", "scope")
    assert len(problem["decision"]["id"]) == 36
    assert problem["decision"]["version"] == rego.load(None).version
    assert (listed.status_code, listed.json()["sessions"]) == (200, before)


async def test_the_decision_that_let_a_write_in_is_on_its_record(platform: Platform) -> None:
    started = (await platform.client.post("/v1/sessions", json={"model": "echo"})).json()
    _, event = await last_event(platform, started["id"])
    assert (event.meta.policy or "").split(" ")[:3] == ["allow", "sessions:write", rego.load(None).version]


async def test_who_may_not_follow_gets_no_stream(platform: Platform) -> None:
    started = (await platform.client.post("/v1/sessions", json={"model": "echo"})).json()
    with calling(platform, Principal("default", "ann", scopes=frozenset({"sessions:write"}))):
        answer = await platform.client.get(f"/v1/sessions/{started['id']}/events")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_tenants_terms_bound_what_a_session_is_started_with(platform: Platform, tmp_path: Path) -> None:
    # given
    shipped = rego.load(None)
    terms = shipped.data["soma"]["tenants"] | {"default": {"models": ["echo"], "ceilings": {"tokens": 1000}}}
    for name, text in shipped.modules.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "data.json").write_text(json.dumps({"soma": {**shipped.data["soma"], "tenants": terms}}))
    bodies: list[dict[str, Any]] = [
        {"model": "echo", "limits": {"tokens": 1000}},
        {"model": "echo", "limits": {"tokens": 1001}},
        {"model": "echo"},
        {"model": "large", "limits": {"tokens": 5}},
    ]
    async with asking(platform, Settings(soma_policy_dir=tmp_path, policy_seconds=5)):
        # when
        answers = [await platform.client.post("/v1/sessions", json=body) for body in bodies]
    # then
    assert [answer.status_code for answer in answers] == [201, 403, 403, 403]
    assert [answer.json()["decision"]["rule"] for answer in answers[1:]] == ["limits", "limits", "model"]


async def test_an_outage_of_the_policies_pauses_and_what_is_on_record_goes_on(platform: Platform, tmp_path: Path) -> None:
    opa = Opa(rego.SHIPPED, tmp_path / "opa.log")
    opa.start()
    try:
        async with asking(platform, Settings(opa_url=opa.url, policy_seconds=5)):
            # given a turn under way
            platform.worker.replying.clear()
            late = {"Prefer": "respond-async"}
            begun = await platform.client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers=late)
            assert begun.status_code == 202
            # when
            opa.stop()
            answer = await platform.client.post("/v1/sessions", json={"model": "echo"}, headers={"Idempotency-Key": "during"})
            platform.worker.replying.set()
            # then
            assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "policy_down", "1")
            assert (await platform.client.get("/health")).status_code == 200
            # when
            opa.start()
            again = await platform.client.post("/v1/sessions", json={"model": "echo"}, headers={"Idempotency-Key": "during"})
            # then
            assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (201, None)
            id = begun.json()["id"]
            async with asyncio.timeout(20):
                while (await platform.client.get(f"/v1/sessions/{id}")).json()["status"] != "idle":
                    await asyncio.sleep(0.05)
    finally:
        platform.worker.replying.set()
        opa.stop()


async def test_who_asked_for_a_call_is_whose_message_it_answers() -> None:
    # given
    def recorded(kind: str, actor: str) -> Stored:
        event = msgspec.json.decode((ROOT / "examples" / "session" / "event" / f"{kind}.json").read_bytes(), type=SessionEvent)
        return Stored(Place(0, 0), replace(event, meta=replace(event.meta, actor=actor)))

    history = [
        recorded("MessagePosted", "ann"),
        recorded("ReplyRecorded", "platform"),
        recorded("MessagePosted", "bob"),
        recorded("ToolCallRequested", "platform"),
        recorded("MessagePosted", "eve"),
    ]

    async def events(session_id: str, tenant: str) -> AsyncIterator[Stored]:
        for each in history:
            yield each

    gateway: Any = SimpleNamespace(reader=SimpleNamespace(events=events))
    call, session = history[3].event.body.call, history[3].event.meta.aggregate_id  # type: ignore[union-attr]
    # then
    assert await asker(session, call, gateway, ANONYMOUS) == {"asked_by": "bob"}
    assert await asker(session, "another", gateway, ANONYMOUS) == {"asked_by": None}
