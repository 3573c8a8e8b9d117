"""Agents: publish, look, retire, restore."""

from fastapi import APIRouter, Response

from gateway.auth import Caller
from gateway.needs import needs
from gateway.parts import Gateway
from gateway.problems import Declined, Invalid, Malformed, NotFound, NotYet, UnknownModel, UnknownTool
from gateway.v1.agent_shapes import AGENT, EXAMPLE, AgentList, NewAgent
from gateway.v1.agent_shapes import Agent as Shape
from gateway.v1.asking import Asking, Fresh
from gateway.v1.named_shapes import Retirement
from gateway.v1.names import ACCEPTED, HEADERS, READ, WRITE, Limit, Name, NameCursor, Names, Reason, RetiredToo, Version
from gateway.v1.responses import bad, good
from gateway.v1.starting import granted
from projections.agent import document, overview
from schemas.types.agent import PublishAgent, RestoreAgent, RetireAgent

router = APIRouter(tags=["agents"])
AGENTS = Names("agent", lambda gateway: gateway.agents, document, overview)
UNCHANGED = good(200, "The agent: this is what its newest version says already", AGENT, HEADERS)
UNCHANGED[200]["model"] = Shape


@router.put(
    "/agents/{name}",
    dependencies=[needs("agent.publish")],
    status_code=201,
    summary="Publish an agent",
    response_model=Shape,
    responses=good(201, "The agent, with its new version", AGENT, HEADERS)
    | UNCHANGED
    | ACCEPTED
    | bad(*WRITE, NotFound, UnknownModel, UnknownTool, Declined),
)
async def publish(name: Name, body: NewAgent, asked: Asking, gateway: Gateway) -> Response:
    """Define an agent, or a new version of it. A version is never altered: a session keeps to the one that it began with.

    The model must be configured and the tools registered. An agent that is retired stays so.
    """
    named = AGENTS.named(name)
    gateway.models.find(body.model)
    if gateway.models.has(named):
        raise Invalid(f"{named!r} is the name of a model: clients that name either by `model` could not tell them apart.")
    for tool in body.tools:
        granted(gateway, asked.principal.tenant, tool)
    command = PublishAgent(definition=body.definition(named))
    return await AGENTS.write(gateway, asked, named, command, f"PUT /v1/agents/{named}", body, defines=True)


@router.get(
    "/agents",
    dependencies=[needs("agent.list")],
    summary="List agents",
    response_model=AgentList,
    responses=good(200, "A page, by name", {"agents": [EXAMPLE], "next_cursor": None}) | bad(Malformed, Invalid, NotYet),
)
async def agents(
    gateway: Gateway, caller: Caller, fresh: Fresh, retired: RetiredToo = False, cursor: NameCursor = None, limit: Limit = 50
) -> Response:
    """The agents that sessions may begin with."""
    return await AGENTS.page(gateway, caller, fresh, retired=retired, cursor=cursor, limit=limit)


@router.get(
    "/agents/{name}",
    dependencies=[needs("agent.read")],
    summary="Read an agent",
    response_model=Shape,
    responses=good(200, "The agent", AGENT, READ) | bad(Malformed, NotFound, Invalid, NotYet),
)
async def read(name: Name, gateway: Gateway, caller: Caller, fresh: Fresh, version: Version = None) -> Response:
    """The terms, and how the agent stands. With `position` the answer holds at least what that command did."""
    return await AGENTS.read(gateway, caller, fresh, name, version)


@router.delete(
    "/agents/{name}",
    dependencies=[needs("agent.retire")],
    summary="Retire an agent",
    response_model=Shape,
    responses=good(200, "The agent, retired", AGENT | {"status": "retired"}, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def retire(name: Name, asked: Asking, gateway: Gateway, reason: Reason = None) -> Response:
    """No new session may begin with it; those that did go on. Nothing is forgotten, and it can be restored."""
    command, route = RetireAgent(reason=reason), f"DELETE /v1/agents/{name}"
    return await AGENTS.write(gateway, asked, AGENTS.named(name), command, route, Retirement(reason=reason))


@router.post(
    "/agents/{name}/restore",
    dependencies=[needs("agent.restore")],
    summary="Restore an agent",
    response_model=Shape,
    responses=good(200, "The agent, offered again", AGENT, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def restore(name: Name, asked: Asking, gateway: Gateway) -> Response:
    """Offer a retired agent to new sessions again."""
    return await AGENTS.write(gateway, asked, AGENTS.named(name), RestoreAgent(), f"POST /v1/agents/{name}/restore", None)
