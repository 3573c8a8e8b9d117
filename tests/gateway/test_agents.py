"""Agents through a gateway and the worker that users run, and the sessions that begin with them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.v1.agent_shapes import Agent, AgentList
from ops.settings import Settings
from tests.gateway.platform import Gateway, deciding

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALCULATOR = {"name": "calculator", "description": "Calculates.", "parameters": {"type": "object"}, "python": {"entry_point": "calculator"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agents(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with a worker and one tool, without a read model: agents need none."""
    async with deciding(module_settings, tmp_path_factory.mktemp("worker") / "worker.log"), Gateway(module_settings) as gateway:
        while (answer := await gateway.client.post("/v1/tools", json=CALCULATOR)).status_code == 503:
            pass
        assert answer.status_code == 201, answer.text
        yield gateway.client


async def publish(agents: httpx.AsyncClient, name: str, **more: Any) -> Agent:
    answer = await agents.put(f"/v1/agents/{name}", json={"model": "echo", **more})
    assert answer.status_code == 201, answer.text
    return Agent.model_validate_json(answer.content)


async def test_an_agent_is_published_and_each_version_stays(agents: httpx.AsyncClient) -> None:
    # when
    terms = {
        "description": "Counts.",
        "instructions": "Use the calculator.",
        "tools": ["calculator@1"],
        "limits": {"calls": 3},
        "approvals": {"calculator": "always"},
        "metadata": {"team": "blue"},
    }
    first = await publish(agents, "accountant", **terms)
    second = await publish(agents, "accountant", description="Counts no more.")
    # then
    assert (first.version, first.status, first.tools, first.approvals) == (1, "offered", ["calculator@1"], {"calculator": "always"})
    assert (first.limits and first.limits.calls, first.instructions, first.metadata) == (3, "Use the calculator.", {"team": "blue"})
    assert (second.version, second.tools) == (2, [])
    shown = (await agents.get("/v1/agents/accountant", params={"version": 1, "position": second.position})).json()
    assert (shown["version"], shown["newest"], shown["description"]) == (1, 2, "Counts.")
    assert (await agents.get("/v1/agents/accountant", params={"version": 3})).status_code == 404


async def test_what_is_published_already_is_no_new_version(agents: httpx.AsyncClient) -> None:
    await publish(agents, "same")
    again = await agents.put("/v1/agents/same", json={"model": "echo"})
    assert (again.status_code, again.json()["version"]) == (200, 1)


async def test_a_retired_agent_begins_no_session_until_it_is_restored(agents: httpx.AsyncClient) -> None:
    # given
    await publish(agents, "retiring")
    assert (await agents.delete("/v1/agents/retiring", params={"reason": "old"})).json()["status"] == "retired"
    # then
    refused = await agents.post("/v1/sessions", json={"agent": "retiring", "input": "hello"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_agent")
    assert "retiring" not in await names(agents)
    assert "retiring" in await names(agents, retired="true")
    # when
    assert (await agents.post("/v1/agents/retiring/restore")).json()["status"] == "offered"
    # then
    begun = await agents.post("/v1/sessions", json={"agent": "retiring", "input": "hello"})
    assert begun.status_code == 201, begun.text


async def names(agents: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await agents.get("/v1/agents", params=query)
    return [agent.name for agent in AgentList.model_validate_json(answer.content).agents]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"model": "none"}, "unknown_model"),
        ({"tools": ["none"]}, "unknown_tool"),
        ({"tools": ["calculator@9"]}, "unknown_tool"),
        ({"tools": ["calculator", "calculator@1"]}, "invalid"),
        ({"approvals": {"calculator": "always"}}, "invalid"),
        ({"tools": ["calculator"], "approvals": {"calculator": "never"}}, "invalid"),
        ({"colour": "red"}, "invalid"),
    ],
)
async def test_terms_that_cannot_be_kept_are_refused(agents: httpx.AsyncClient, wrong: dict[str, Any], code: str) -> None:
    answer = await agents.put("/v1/agents/wrong", json={"model": "echo", **wrong})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


async def test_an_agent_has_no_models_name_and_no_odd_one(agents: httpx.AsyncClient) -> None:
    assert (await agents.put("/v1/agents/echo", json={"model": "echo"})).json()["code"] == "invalid"
    assert (await agents.put("/v1/agents/No%20Name", json={"model": "echo"})).json()["code"] == "not_found"


async def test_a_session_takes_the_terms_of_the_version_it_names(agents: httpx.AsyncClient) -> None:
    # given
    await publish(agents, "versioned", instructions="one", tools=["calculator"], approvals={"calculator": "always"})
    await publish(agents, "versioned", instructions="two")
    # when
    newest = await agents.post("/v1/sessions", json={"agent": "versioned", "input": "hello"})
    first = await agents.post("/v1/sessions", json={"agent": "versioned@1", "input": '/calculator {"expression": "1"}'})
    # then
    assert (newest.json()["agent"], newest.json()["status"]) == ("versioned@2", "idle")
    assert (first.json()["agent"], first.json()["status"]) == ("versioned@1", "waiting"), "the agent is stricter than the tool"
    unknown = await agents.post("/v1/sessions", json={"agent": "versioned@3"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_agent")


async def test_a_caller_may_narrow_the_limits_and_nothing_else(agents: httpx.AsyncClient) -> None:
    await publish(agents, "limited", limits={"calls": 3, "turns": 2})
    # when the caller asks for less, and bounds what the agent leaves open
    narrower = await agents.post("/v1/sessions", json={"agent": "limited", "limits": {"turns": 1, "tokens": 1000}, "input": "hello"})
    # then it holds
    assert narrower.status_code == 201, narrower.text
    again = await agents.post(f"/v1/sessions/{narrower.json()['id']}/messages", json={"input": "again"})
    assert (again.status_code, again.json()["code"]) == (409, "budget")
    # and more, or other terms, are refused
    wider = await agents.post("/v1/sessions", json={"agent": "limited", "limits": {"calls": 4}})
    assert (wider.status_code, wider.json()["errors"]) == (
        422,
        [{"field": "body.limits.calls", "problem": "the agent allows 3 at most"}],
    )
    for other in ({"model": "echo"}, {"instructions": "Be rude."}, {"tools": ["calculator"]}):
        assert (await agents.post("/v1/sessions", json={"agent": "limited", **other})).json()["code"] == "invalid"
    assert (await agents.post("/v1/sessions", json={})).json()["code"] == "invalid"
