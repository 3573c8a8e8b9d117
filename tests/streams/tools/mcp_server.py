"""An MCP server: over stdio, or with a port over streamable HTTP. The tests start it as a process."""

import logging
import os
import sys
import time

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("letters", log_level="CRITICAL")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool(name="Send.Letter", structured_output=False)
def send(ctx: Context) -> str:
    meta = ctx.request_context.meta or {}
    return f"{os.getpid()} {dict(meta).get('soma/idempotency-key')} {os.environ.get('SOMA_SECRET_KEY')}"


@server.tool(structured_output=False)
def header(ctx: Context) -> str:
    return str((ctx.headers or {}).get("x-key"))


@server.tool(structured_output=False)
def picture() -> Image:
    return Image(data=b"dots", format="png")


@server.tool(structured_output=False)
def fails() -> str:
    raise ValueError("the letter was lost")


@server.tool(structured_output=False)
def dies() -> str:
    os._exit(3)


@server.tool(structured_output=False)
def hangs() -> str:
    time.sleep(600)
    return ""


@server.tool(structured_output=False)
def talks() -> str:
    return "x" * 1_000_000


if __name__ == "__main__":
    logging.disable()
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
