"""Tools of an MCP server, over stdio or streamable HTTP, through the official client."""

import asyncio
import json
import re
from typing import Any, cast

from mcp import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolResult,
    RequestParamsMeta,
    TextContent,
    Tool,
    ToolAnnotations,
)
from msgspec import structs
from pydantic import ValidationError

from schemas.types.tool import Definition
from schemas.types.tool import Mcp as Place
from streams.tools.connection import Connection, Gone, NotAllowed
from streams.tools.egress import Barred, TooLong
from streams.tools.running import Call, Result, Ways, failed, late
from streams.tools.secrets import MissingSecret, hidden

IDEMPOTENCY_KEY = "soma/idempotency-key"
"""Where the id of the call stands in `_meta`."""
TIMEOUT_SECONDS = 60
MAX_DESCRIPTION = 4_096
MAX_PAGES = 100


class Mcp:
    """All calls share one connection."""

    def __init__(self, definition: Definition, place: Place, ways: Ways) -> None:
        self._place, self._ways = place, ways
        self._connection = Connection(place, ways, definition.allowed_hosts)

    async def run(self, call: Call) -> Result:
        try:
            _, used = self._ways.secrets.filled(self._place.headers)
        except MissingSecret as error:
            return failed(str(error), fault=True)
        result = await self._attempt(call)
        return structs.replace(result, content=hidden(result.content, used))

    async def _attempt(self, call: Call) -> Result:
        sent = False
        try:
            async with asyncio.timeout(call.seconds), self._connection.client() as client:
                meta, sent = cast("RequestParamsMeta", {IDEMPOTENCY_KEY: call.id}), True
                answer = await client.call_tool(self._place.tool, call.arguments, meta=meta)
        except TimeoutError:
            return late(call)
        except MCPError as error:
            return _refused(error)
        except (Barred, TooLong, NotAllowed) as error:
            return failed(str(error))
        except (Gone, MissingSecret) as error:
            return failed(str(error), retry=isinstance(error, Gone), fault=True, unsure=sent)
        except (ValidationError, RuntimeError):
            return failed("the server's answer is not what MCP or its own schema declares", fault=True)
        content = _content(answer)
        if len(content) > self._ways.max_bytes:
            return failed(f"the answer is longer than {self._ways.max_bytes} bytes")
        return Result("error" if answer.is_error else "ok", content)

    async def status(self, call_id: str) -> Result | None:
        """None: MCP has no way to ask."""
        return None

    async def close(self) -> None:
        await self._connection.close()


async def list_tools(place: Place, ways: Ways, prefix: str = "") -> tuple[Definition, ...]:
    """The tools of a server, ready to be registered, their names behind the prefix; `place.tool` is not looked at.

    Where the server says nothing of a tool, it is not repeated and every call needs an approval. Raises Gone, Barred or NotAllowed,
    MCPError where the server refuses, MissingSecret.
    """
    found = await _listed(Connection(place, ways))
    names: dict[str, str] = {}
    for tool in found:
        names[tool.name] = _name(f"{prefix}{tool.name}", set(names.values()))
    return tuple(_definition(tool, names[tool.name], place) for tool in found)


async def _listed(connection: Connection) -> list[Tool]:
    found: list[Tool] = []
    cursor: str | None = None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), connection.client() as client:
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                found, cursor = found + page.tools, page.next_cursor
                if cursor is None:
                    break
    except TimeoutError:
        raise Gone(f"the server did not list its tools within {TIMEOUT_SECONDS} s") from None
    finally:
        await connection.close()
    return found


def _definition(tool: Tool, name: str, place: Place) -> Definition:
    hints = tool.annotations or ToolAnnotations()
    reads = hints.read_only_hint is True
    repeatable = reads or hints.idempotent_hint is True
    harmless = reads or hints.destructive_hint is False
    return Definition(
        name=name,
        description=_cut(tool.description or tool.title or tool.name),
        parameters=json.dumps({"type": "object", **tool.input_schema}),
        result=json.dumps(tool.output_schema) if tool.output_schema else None,
        mcp=Place(tool=tool.name, url=place.url, command=place.command, headers=place.headers),
        repeat="safe" if repeatable else "never",
        timeout_seconds=TIMEOUT_SECONDS,
        attempts=3 if repeatable else 1,
        approval="never" if harmless else "always",
    )


def _name(theirs: str, taken: set[str]) -> str:
    """A name for our registry, from one that may hold anything."""
    plain = re.sub(r"[^a-z0-9_-]", "_", theirs.lower())
    name = (plain if plain[:1].isalpha() else f"tool_{plain}")[:60]
    return name if name not in taken else next(f"{name}_{n}" for n in range(2, 1_000) if f"{name}_{n}" not in taken)


def _cut(text: str) -> str:
    return text.encode()[:MAX_DESCRIPTION].decode(errors="ignore")


def _content(answer: CallToolResult) -> bytes:
    """What is structured as JSON, texts as text; other blocks (images, resources) as JSON as they came."""
    if answer.structured_content is not None:
        return _json(answer.structured_content)
    if all(isinstance(block, TextContent) for block in answer.content):
        return "\n".join(block.text for block in answer.content if isinstance(block, TextContent)).encode(errors="replace")
    return _json([block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _refused(error: MCPError) -> Result:
    if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
        return failed(f"the server refused the call: {error.message}")
    if error.code == CONNECTION_CLOSED:
        return failed("the connection to the server broke", retry=True, fault=True, unsure=True)
    return failed(f"the server failed: {error.message}", retry=True, fault=True)
