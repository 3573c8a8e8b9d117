"""Sessions that draw from their tenant's budget and wait for people: what is held meanwhile, and every bad end."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ops.settings import Settings
from tests.agents.conftest import Agents

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def module_platform(module_platform: Settings) -> Settings:
    return module_platform.model_copy(update={"soma_tenant_budgets": True})


async def budget(agents: Agents, calls_left: int) -> None:
    """A budget for so many tool calls more than were made, once it is known of all sessions how many those are."""
    await limit(agents, (await given_back(agents))["spent"]["calls"] + calls_left)


async def limit(agents: Agents, calls: int) -> None:
    answer = await agents.client.put("/v1/budget", json={"limits": {"calls": calls}})
    assert answer.status_code == 200, answer.text


async def waiting(agents: Agents, **terms: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A session that waits for a person, and the call that it is about."""
    await agents.register("guarded", approval="always", http={"method": "POST", "url": agents.journal.url("/pay")})
    session = await agents.ask("/guarded {}", "guarded", **terms)
    assert session["status"] == "waiting"
    [call] = await agents.calls(session["id"], session["position"])
    return session, call


async def judge(agents: Agents, call: dict[str, Any], verdict: str = "approve") -> httpx.Response:
    where = f"/v1/sessions/{call['session_id']}/calls/{call['id']}/{verdict}"
    return await agents.client.post(where, json={"arguments_digest": call["arguments_digest"]} if verdict == "approve" else {})


async def ended(agents: Agents, session: dict[str, Any]) -> dict[str, Any]:
    """The session after its turn."""
    return await until(agents, f"/v1/sessions/{session['id']}", lambda shown: shown["status"] not in ("acting", "thinking", "waiting"))


async def given_back(agents: Agents) -> dict[str, Any]:
    """The budget once no session holds anything of it."""
    return await until(agents, "/v1/budget", lambda shown: shown["sessions"] == 0)


async def until(agents: Agents, path: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not true(shown := (await agents.client.get(path)).json()):
            await asyncio.sleep(0.1)
    document: dict[str, Any] = shown
    return document


async def close(agents: Agents, session: dict[str, Any]) -> None:
    assert (await agents.client.post(f"/v1/sessions/{session['id']}/close")).status_code == 200


async def test_a_call_that_waits_holds_its_part_and_is_charged_once_it_was_approved(agents: Agents) -> None:
    # given
    await budget(agents, 1)
    before = (await agents.client.get("/v1/budget")).json()
    session, call = await waiting(agents)
    held = (await agents.client.get("/v1/budget", params={"position": before["position"]})).json()
    assert (held["reserved"]["calls"], agents.journal.requests) == (1, [])
    # when a person approves, then the call is made, and the session goes on
    approved = await judge(agents, call)
    assert approved.status_code == 200, approved.text
    assert (await ended(agents, session))["messages"][-1]["content"] == "echo: paid"
    assert len(agents.journal.requests) == 1
    # and all of it is in the budget
    await close(agents, session)
    after = await given_back(agents)
    assert (after["spent"]["calls"] - before["spent"]["calls"], after["reserved"]["calls"]) == (1, 0)


async def test_what_waits_is_kept_from_others_and_goes_back_where_it_is_denied(agents: Agents) -> None:
    # given a budget for one call, which waits
    await budget(agents, 1)
    session, call = await waiting(agents)
    # when another session wants one, then its turn ends
    other = await agents.ask("/pay {}", "pay")
    assert (other["status"], other["error"]["code"], agents.journal.requests) == ("idle", "budget", [])
    # when a person denies the first one
    denied = await judge(agents, call, "deny")
    assert denied.status_code == 200, denied.text
    assert "denied this call" in (await ended(agents, session))["messages"][-1]["content"]
    await close(agents, session)
    await close(agents, other)
    await given_back(agents)
    # then others may use it
    third = await agents.ask("/pay {}", "pay")
    assert (third["error"], third["messages"][-1]["content"]) == (None, "echo: paid")
    await close(agents, third)


async def test_a_budget_that_is_lowered_while_a_call_waits_leaves_it_what_it_holds_and_nothing_after_it(agents: Agents) -> None:
    # given
    await budget(agents, 1)
    session, call = await waiting(agents)
    # when
    await limit(agents, 0)
    # then what was granted stands
    assert (await judge(agents, call)).status_code == 200
    assert (await ended(agents, session))["messages"][-1]["content"] == "echo: paid"
    # and the next call is not
    more = await agents.client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "/guarded {}"})
    assert (more.status_code, more.json()["status"], more.json()["error"]["code"]) == (200, "idle", "budget"), more.text
    await close(agents, session)


async def test_an_approval_that_comes_after_the_deadline_runs_nothing(agents: Agents) -> None:
    # given a session whose wall time ends while it waits
    await budget(agents, 1)
    session, call = await waiting(agents, limits={"seconds": 8})
    over = await ended(agents, session)
    # then nobody approved in time, and the turn is over
    assert (over["status"], over["error"]["code"], "wall time" in over["error"]["reason"]) == ("idle", "budget", True)
    [late] = await agents.calls(session["id"], over["position"])
    assert (late["status"], late["outcome"], late["attempts"]) == ("done", "denied", [])
    # when somebody approves all the same
    answer = await judge(agents, call)
    # then it is said that nothing waits for it, and nothing runs
    assert (answer.status_code, answer.json()["code"], "it is over" in answer.json()["detail"]) == (404, "not_found", True), answer.text
    assert agents.journal.requests == []
    await close(agents, session)
    assert (await given_back(agents))["reserved"]["calls"] == 0


async def test_a_cancel_while_it_waits_gives_back_what_was_held(agents: Agents) -> None:
    # given
    await budget(agents, 1)
    session, call = await waiting(agents)
    # when
    assert (await agents.client.post(f"/v1/sessions/{session['id']}/cancel")).json()["outcome"] == "cancelled"
    # then
    answer = await judge(agents, call)
    assert (answer.status_code, answer.json()["code"]) in {(404, "not_found"), (409, "ended")}, answer.text
    assert ((await given_back(agents))["reserved"]["calls"], agents.journal.requests) == (0, [])
