"""One call by itself: the same ledger, approvals and limits as those of an agent."""

from typing import Any

import httpx
import pytest

from tests.agents.conftest import Agents

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def execute(
    agents: Agents, tool: str, arguments: dict[str, Any], *, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"tool": tool, "arguments": arguments, **more}
    return await agents.client.post("/v1/tool_executor", json=body, headers=headers)


async def test_a_call_is_answered_with_its_entry_in_the_ledger(agents: Agents) -> None:
    # when
    answer = await execute(agents, "calculator@1", {"expression": "6*7"}, metadata={"why": "test"})
    # then
    assert answer.status_code == 201, answer.text
    call = answer.json()
    assert (call["status"], call["outcome"], call["result"], call["arguments"]) == ("done", "ok", "42", '{"expression":"6*7"}')
    assert [attempt["attempt"] for attempt in call["attempts"]] == [1]
    # and it is where the answer says, in a session that is over
    assert (await agents.client.get(answer.headers["location"])).json() == call
    session = (await agents.client.get(f"/v1/sessions/{call['session_id']}", params={"position": answer.headers["soma-position"]})).json()
    assert (session["status"], session["outcome"], session["metadata"]) == ("ended", "closed", {"why": "test"})
    assert [message["role"] for message in session["messages"]] == ["assistant", "tool"]


async def test_arguments_that_do_not_fit_are_refused_and_nothing_is_recorded(agents: Agents) -> None:
    before = len((await agents.client.get("/v1/calls")).json()["calls"])
    # when
    wrong = await execute(agents, "calculator", {"expresion": "6*7"})
    large = await execute(agents, "slow", {"text": "x" * 70_000})
    unknown = await execute(agents, "none", {})
    version = await execute(agents, "calculator@99", {"expression": "1"})
    # then
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "body.arguments")
    assert "expression" in wrong.text
    assert (large.status_code, "65536" in large.text) == (422, True)
    assert [(each.status_code, each.json()["code"]) for each in (unknown, version)] == [(422, "unknown_tool")] * 2
    assert len((await agents.client.get("/v1/calls")).json()["calls"]) == before


async def test_the_same_key_makes_one_call_and_another_body_is_refused(agents: Agents) -> None:
    # given
    key = {"Idempotency-Key": "pay-once"}
    first = await execute(agents, "pay", {"amount": 1}, headers=key)
    # when
    again = await execute(agents, "pay", {"amount": 1}, headers=key)
    other = await execute(agents, "pay", {"amount": 2}, headers=key)
    # then
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert [request.headers["idempotency-key"] for request in agents.journal.requests] == [first.json()["id"]]
    # and the key means another thing where sessions are started
    started = await agents.client.post("/v1/sessions", json={"model": "echo"}, headers=key)
    assert (started.status_code, started.json()["id"] != first.json()["session_id"]) == (201, True)


async def test_whoever_does_not_wait_finds_the_call_at_its_place(agents: Agents) -> None:
    answer = await execute(agents, "calculator", {"expression": "2+2"}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    accepted = answer.json()
    # a call that hangs is 202 once the wait is over, and goes on
    slow = await execute(agents, "slow", {}, headers={"Prefer": "wait=1"})
    assert slow.status_code == 202
    await agents.client.post(f"/v1/sessions/{slow.json()['id']}/cancel")
    # then
    read = await agents.client.get(answer.headers["location"], params={"position": accepted["position"]})
    assert [call["tool"] for call in read.json()["calls"]] == ["calculator"]


async def test_a_call_that_needs_an_approval_waits_for_it(agents: Agents) -> None:
    # given
    await agents.register("guarded", approval="always", http={"method": "POST", "url": agents.journal.url("/pay")})
    answer = await execute(agents, "guarded", {"amount": 5})
    # then nothing is done before a person says so
    assert (answer.status_code, "approve" in answer.json()["detail"]) == (202, True)
    assert agents.journal.requests == []
    [entry] = await agents.calls(answer.json()["id"], answer.json()["position"])
    # when
    where = f"/v1/sessions/{entry['session_id']}/calls/{entry['id']}"
    approved = await agents.client.post(f"{where}/approve", json={"arguments_digest": entry["arguments_digest"]})
    assert approved.status_code == 200, approved.text
    await agents.journal.asked.wait()
    # then it runs and the session is over
    while (call := (await agents.client.get(where)).json())["status"] != "done":
        pass
    assert (call["outcome"], call["approval"]["decision"]) == ("ok", "approved")


async def test_a_limit_ends_the_call_before_it_begins(agents: Agents) -> None:
    answer = await execute(agents, "pay", {}, limits={"calls": 0})
    assert (answer.status_code, answer.json()["status"], answer.json()["outcome"]) == (201, "done", "budget")
    assert (answer.json()["attempts"], agents.journal.requests) == ([], [])
