"""Forks: what was said until a version, and from there another way."""

from typing import Any

import httpx
import pytest

from tests.agents.conftest import Agents

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def fork(agents: Agents, session_id: str, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return await agents.client.post(f"/v1/sessions/{session_id}/fork", json=body, headers=headers)


def said(session: dict[str, Any]) -> list[str]:
    return [message["content"] for message in session["messages"]]


async def two_turns(agents: Agents) -> dict[str, Any]:
    body = {"model": "echo", "input": "one", "instructions": "Be brief.", "tools": ["calculator"], "metadata": {"team": "a"}}
    session = (await agents.client.post("/v1/sessions", json=body)).json()
    second = await agents.client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "two"})
    assert second.status_code == 200, second.text
    answer: dict[str, Any] = second.json()
    return answer


async def test_a_fork_shows_the_conversation_and_the_model_gets_it(agents: Agents) -> None:
    # given a session of two turns
    session = await two_turns(agents)
    # when it is forked after its first turn, for another model
    forked = await fork(agents, session["id"], version=4, model="m", input="three")
    # then it goes on from there
    assert forked.status_code == 201, forked.text
    new = forked.json()
    assert new["id"] != session["id"]
    assert new["origin"] == {"session_id": session["id"], "version": 4}
    assert (said(new), new["metadata"]) == (["one", "echo: one", "three", "Hello"], {"team": "a"})
    assert agents.script.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "echo: one"},
        {"role": "user", "content": "three"},
    ]
    assert [tool["function"]["name"] for tool in agents.script.asked[-1]["tools"]] == ["calculator"]
    # and a GET shows the same, and the origin stays as it was
    read = await agents.client.get(forked.headers["location"], params={"position": new["position"]})
    assert read.json() == new
    assert (await agents.client.get(f"/v1/sessions/{session['id']}")).json() == session


async def test_a_fork_of_a_fork_holds_all_three_conversations(agents: Agents) -> None:
    # given a fork of an ended session, with a tool call in it
    session = await agents.ask('/calculator {"expression": "6*7"}', "calculator")
    closed = await agents.client.post(f"/v1/sessions/{session['id']}/close")
    assert closed.status_code == 200
    first = (await fork(agents, session["id"], input="second")).json()
    # when that is forked
    second = (await fork(agents, first["id"], model="m", input="third")).json()
    # then
    assert second["origin"]["session_id"] == first["id"]
    assert said(second)[-5:] == ["echo: 42", "second", "echo: second", "third", "Hello"]
    asked = agents.script.asked[-1]["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert asked[2]["content"] == "42"
    # and a message to it goes on
    third = await agents.client.post(f"/v1/sessions/{second['id']}/messages", json={"input": "fourth"})
    assert said(third.json())[-2:] == ["fourth", "Hello"]
    assert len(agents.script.asked[-1]["messages"]) == 9


async def test_a_fork_without_a_message_waits_for_one_and_the_same_key_makes_one_fork(agents: Agents) -> None:
    session, key = await two_turns(agents), {"Idempotency-Key": "fork-1"}
    # when
    first = await fork(agents, session["id"], headers=key)
    # then
    assert (first.status_code, first.json()["status"], len(said(first.json()))) == (201, "idle", 4)
    # when the origin has gone on
    await agents.client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "three"})
    again = await fork(agents, session["id"], headers=key)
    # then
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    other = await fork(agents, session["id"], headers=key, version=4)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


async def test_what_cannot_be_forked_is_explained(agents: Agents) -> None:
    session = await two_turns(agents)
    direct = (await agents.client.post("/v1/tool_executor", json={"tool": "clock"})).json()
    # when it is forked between question and answer, beyond its end, for an unknown model
    middle = await fork(agents, session["id"], version=3)
    beyond = await fork(agents, session["id"], version=99)
    model = await fork(agents, session["id"], model="none")
    one_call = await fork(agents, direct["session_id"])
    nobody = await fork(agents, "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000")
    # then
    assert (middle.status_code, middle.json()["refusal"]) == (409, "not_at_rest")
    assert "had not come to rest at version 3" in middle.json()["detail"]
    assert middle.json()["session"]["id"] == session["id"]
    assert [(each.status_code, each.json()["code"]) for each in (beyond, model, one_call, nobody)] == [
        (404, "not_found"),
        (422, "unknown_model"),
        (409, "declined"),
        (404, "not_found"),
    ]


async def test_a_session_that_was_cancelled_among_its_calls_is_forked_before_them(agents: Agents) -> None:
    # given a session that was cancelled while a tool ran
    slow = await agents.ask("first", "slow")
    await agents.client.post(f"/v1/sessions/{slow['id']}/messages", json={"input": "/slow {}"}, headers={"Prefer": "respond-async"})
    await agents.journal.asked.wait()
    cancelled = await agents.client.post(f"/v1/sessions/{slow['id']}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    # when
    forked = await fork(agents, slow["id"])
    # then it begins with the turn that was whole
    assert (forked.status_code, said(forked.json())) == (201, ["first", "echo: first"])
    assert (await fork(agents, slow["id"], version=cancelled.json()["version"])).status_code == 409
