"""Tools: register, look, retire, restore."""

from typing import Any

from fastapi import APIRouter, Response

from gateway.auth import Caller
from gateway.needs import Facts, needs
from gateway.parts import Gateway
from gateway.problems import Declined, Invalid, Malformed, NotFound, NotYet
from gateway.v1.asking import Asking, Fresh
from gateway.v1.named_shapes import Retirement
from gateway.v1.names import ACCEPTED, HEADERS, READ, WRITE, Limit, Name, NameCursor, Names, Reason, RetiredToo, Version
from gateway.v1.responses import bad, good
from gateway.v1.tool_shapes import NewTool, ToolList
from gateway.v1.tool_shapes import Tool as Shape
from projections.tool import document, overview
from schemas.types.tool import RegisterTool, RestoreTool, RetireTool

router = APIRouter(tags=["tools"])
TOOLS = Names("tool", lambda gateway: gateway.tools, document, overview)
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
UNCHANGED = good(200, "The tool: this is what its newest version says already", TOOL, HEADERS)
UNCHANGED[200]["model"] = Shape


async def named(body: NewTool) -> Facts:
    """Which tool a definition is of."""
    return {"name": body.name}


@router.post(
    "/tools",
    status_code=201,
    dependencies=[needs("tool.register", named)],
    summary="Register a tool",
    response_model=Shape,
    responses=good(201, "The tool, with its new version", TOOL, HEADERS) | UNCHANGED | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def register(body: NewTool, asked: Asking, gateway: Gateway) -> Response:
    """Define a tool, or a new version of it. A version is never altered: sessions keep to the one that they began with.

    A new version closes the tool's breaker. One that is retired stays so.
    """
    command = RegisterTool(definition=body.definition())
    return await TOOLS.write(gateway, asked, body.name, command, "POST /v1/tools", body, defines=True)


@router.get(
    "/tools",
    dependencies=[needs("tool.list")],
    summary="List tools",
    response_model=ToolList,
    responses=good(200, "A page, by name", {"tools": [OVERVIEW], "next_cursor": None}) | bad(Malformed, Invalid, NotYet),
)
async def tools(
    gateway: Gateway, caller: Caller, fresh: Fresh, retired: RetiredToo = False, cursor: NameCursor = None, limit: Limit = 50
) -> Response:
    """The tools, and whether they work."""
    return await TOOLS.page(gateway, caller, fresh, retired=retired, cursor=cursor, limit=limit)


@router.get(
    "/tools/{name}",
    dependencies=[needs("tool.read")],
    summary="Read a tool",
    response_model=Shape,
    responses=good(200, "The tool", TOOL, READ) | bad(Malformed, NotFound, Invalid, NotYet),
)
async def read(name: Name, gateway: Gateway, caller: Caller, fresh: Fresh, version: Version = None) -> Response:
    """The definition, and how the tool stands. With `position` the answer holds at least what that command did."""
    return await TOOLS.read(gateway, caller, fresh, name, version)


@router.delete(
    "/tools/{name}",
    dependencies=[needs("tool.retire")],
    summary="Retire a tool",
    response_model=Shape,
    responses=good(200, "The tool, retired", TOOL | {"status": "retired"}, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def retire(name: Name, asked: Asking, gateway: Gateway, reason: Reason = None) -> Response:
    """No new session may use it; those that began with it go on. Nothing is forgotten, and it can be restored."""
    command, route = RetireTool(reason=reason), f"DELETE /v1/tools/{name}"
    return await TOOLS.write(gateway, asked, TOOLS.named(name), command, route, Retirement(reason=reason))


@router.post(
    "/tools/{name}/restore",
    dependencies=[needs("tool.restore")],
    summary="Restore a tool",
    response_model=Shape,
    responses=good(200, "The tool, offered again", TOOL, HEADERS) | ACCEPTED | bad(*WRITE, NotFound, Declined),
)
async def restore(name: Name, asked: Asking, gateway: Gateway) -> Response:
    """Offer a retired tool to new sessions again."""
    return await TOOLS.write(gateway, asked, TOOLS.named(name), RestoreTool(), f"POST /v1/tools/{name}/restore", None)
