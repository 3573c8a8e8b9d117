"""Tools: register, look, retire, restore."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from gateway.auth import Caller
from gateway.named import Ask, Written
from gateway.needs import needs
from gateway.parts import Gateway, Parts
from gateway.problems import (
    Declined,
    Invalid,
    KeyReused,
    Malformed,
    NotFound,
    NotJson,
    NotYet,
    OutcomeUnknown,
    TooLarge,
    TooMany,
    TooManyCommands,
    TooSlow,
)
from gateway.reader import READ_SECONDS
from gateway.v1.asking import Asked, Asking, Fresh, Freshness, digest_of
from gateway.v1.responses import bad, good, json
from gateway.v1.tool_shapes import NAME, NewTool, Retirement, ToolAccepted, ToolList
from gateway.v1.tool_shapes import Tool as Shape
from ops.follow import Catalogue
from projections.tool import Tool, document, overview
from schemas.types.tool import RegisterTool, RestoreTool, RetireTool

router = APIRouter(tags=["tools"])
OVERVIEW: dict[str, Any] = {
    "name": "adder",
    "version": 1,
    "status": "offered",
    "description": "Adds.",
    "breaker": {"status": "closed", "failures": 0, "until": None},
    "position": "0:12",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
}
TOOL = OVERVIEW | {
    "newest": 1,
    "parameters": {"type": "object"},
    "result": {"type": "number"},
    "http": {"method": "GET", "url": "https://example.org/add/{x}", "headers": {}, "status_url": None},
    "mcp": None,
    "python": None,
    "repeat": "safe",
    "timeout_seconds": 30,
    "attempts": 3,
    "cost_micros": 0,
    "approval": "never",
    "approval_when": None,
    "allowed_hosts": ["example.org"],
    "concurrency": 8,
}
DETAIL = "The command is recorded for good; what became of it is not known yet."
READ = {
    "Soma-Position": "The last command that changed the tool.",
    "Preference-Applied": "The preferences that were honoured.",
}
HEADERS = READ | {
    "Location": "The tool.",
    "Idempotency-Replayed": "`true` where this is the answer to an earlier request with this key.",
}
ACCEPTED = good(202, "Recorded; what became of it is not known yet", {"name": "adder", "position": "0:12", "detail": DETAIL}, HEADERS)
ACCEPTED[202]["model"] = ToolAccepted
UNCHANGED = good(200, "The tool: this is what its newest version says already", TOOL, HEADERS)
UNCHANGED[200]["model"] = Shape
WRITE = (Malformed, TooSlow, TooLarge, NotJson, Invalid, KeyReused, TooMany, TooManyCommands, OutcomeUnknown)
Name = Annotated[str, Path(max_length=200, description="The tool's name.", examples=["adder"])]


@router.post(
    "/tools",
    status_code=201,
    dependencies=[needs("tool.register")],
    summary="Register a tool",
    response_model=Shape,
    responses=good(201, "The tool, with its new version", TOOL, HEADERS) | UNCHANGED | ACCEPTED | bad(*WRITE, Declined),
)
async def register(body: NewTool, asked: Asking, gateway: Gateway) -> Response:
    """Define a tool, or a new version of it. A version is never altered: sessions keep to the one that they began with.

    A new version closes the tool's breaker. One that is retired stays so.
    """
    command = RegisterTool(definition=body.definition())
    return await _write(gateway, asked, body.name, command, "POST /v1/tools", body)


@router.get(
    "/tools",
    dependencies=[needs("tool.list")],
    summary="List tools",
    response_model=ToolList,
    responses=good(200, "A page, by name", {"tools": [OVERVIEW], "next_cursor": None}) | bad(Malformed, Invalid, NotYet),
)
async def tools(
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    retired: Annotated[bool, Query(description="Also those that are retired.")] = False,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50,
) -> Response:
    """The tools, and whether they work."""
    if cursor is not None and not re.fullmatch(NAME, cursor):
        raise Malformed("This cursor is none that a list gave: begin without one.")
    known = await _known(gateway, fresh)
    shown = [tool for tool in known.all(caller.tenant) if (retired or not tool.retired) and tool.definition.name > (cursor or "")]
    shown.sort(key=lambda tool: tool.definition.name)
    page, more = shown[:limit], len(shown) > limit
    listed = {"tools": [overview(tool) for tool in page], "next_cursor": page[-1].definition.name if more else None}
    return json(listed, headers=fresh.prefer.applied())


@router.get(
    "/tools/{name}",
    dependencies=[needs("tool.read")],
    summary="Read a tool",
    response_model=Shape,
    responses=good(200, "The tool", TOOL, READ) | bad(Malformed, NotFound, Invalid, NotYet),
)
async def read(
    name: Name,
    gateway: Gateway,
    caller: Caller,
    fresh: Fresh,
    version: Annotated[int | None, Query(ge=1, description="An earlier version of its definition.", examples=[1])] = None,
) -> Response:
    """The definition, and how the tool stands. With `position` the answer holds at least what that command did."""
    known = await _known(gateway, fresh)
    tool = known.find(caller.tenant, name)
    if tool is None:
        raise NotFound(f"There is no tool {name!r}.")
    if version is not None and tool.at(version) is None:
        raise NotFound(f"The tool is at version {tool.version}: there is no version {version} yet.")
    return json(document(tool, version), headers=_marks(tool) | fresh.prefer.applied())


@router.delete(
    "/tools/{name}",
    dependencies=[needs("tool.retire")],
    summary="Retire a tool",
    response_model=Shape,
    responses=good(200, "The tool, retired", TOOL | {"status": "retired"}, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def retire(
    name: Name,
    asked: Asking,
    gateway: Gateway,
    reason: Annotated[str | None, Query(max_length=512, description="For the record.", examples=["unsafe"])] = None,
) -> Response:
    """No new session may use it; those that began with it go on. Nothing is forgotten, and it can be restored."""
    command = RetireTool(reason=reason)
    return await _write(gateway, asked, _named(name), command, f"DELETE /v1/tools/{name}", Retirement(reason=reason))


@router.post(
    "/tools/{name}/restore",
    dependencies=[needs("tool.restore")],
    summary="Restore a tool",
    response_model=Shape,
    responses=good(200, "The tool, offered again", TOOL, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def restore(name: Name, asked: Asking, gateway: Gateway) -> Response:
    """Offer a retired tool to new sessions again."""
    return await _write(gateway, asked, _named(name), RestoreTool(), f"POST /v1/tools/{name}/restore", None)


def _named(name: str) -> str:
    """A name that a tool can have. Raises NotFound: nothing is put on record of any other."""
    if not re.fullmatch(NAME, name):
        raise NotFound(f"There is no tool {name!r}.")
    return name


async def _write(gateway: Parts, asked: Asked, name: str, command: Any, route: str, body: BaseModel | None) -> Response:
    wait = asked.prefer.seconds(gateway.settings.gateway_wait_seconds)
    key, caller = asked.key or gateway.identity.key(), asked.principal
    ask = Ask(name, command, route, key, digest_of(body), caller.tenant, caller.actor, asked.policy, wait, asked.trace)
    outcome = await gateway.tools.write(ask)
    headers = {"Location": f"/v1/tools/{name}"} | asked.prefer.applied()
    if isinstance(outcome, Written):
        headers |= _marks(outcome.known) | ({"Idempotency-Replayed": "true"} if outcome.replayed else {})
        created = isinstance(command, RegisterTool) and outcome.changed
        return json(document(outcome.known), 201 if created else 200, headers)
    position = str(outcome.position)
    return json({"name": name, "position": position, "detail": DETAIL}, 202, headers | {"Soma-Position": position})


async def _known(gateway: Parts, fresh: Freshness) -> Catalogue[Tool]:
    return await gateway.tools.fresh(fresh.position, fresh.prefer.seconds(READ_SECONDS), lenient=fresh.prefer.lenient)


def _marks(tool: Tool) -> dict[str, str]:
    return {"Soma-Position": f"{tool.position.partition}:{tool.position.offset}"}
