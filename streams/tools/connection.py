"""A connection to an MCP server: made when it is needed, kept, and made anew after the server has gone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

from schemas.types.tool import Mcp
from streams.tools import template
from streams.tools.egress import Barred, TooLong, Transport
from streams.tools.running import Ways
from streams.tools.secrets import MissingSecret

ENDING_SECONDS = 0.2
_LOST = (CONNECTION_CLOSED, INVALID_REQUEST)  # the second is what a session is answered that the server has forgotten


class NotAllowed(Exception):
    """The settings do not let this server be started; says which one would."""


class Gone(Exception):
    """The server cannot be reached, or ended; it may come back."""


class Connection:
    """Held by a task of its own, because the client must be left by the task that entered it, and calls come and go."""

    def __init__(self, place: Mcp, ways: Ways, allowed_hosts: tuple[str, ...] = ()) -> None:
        self._place, self._ways, self._hosts = place, ways, allowed_hosts
        self._making = asyncio.Lock()
        self._client: Client | None = None
        self._holder: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._calls = 0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """The client for one call. Raises Gone, Barred, TooLong or NotAllowed, also when that happens during the call.

        A call that is given up while no other one runs takes the connection with it: nothing tells a slow server from a frozen one.
        """
        client, holder = await self._made()
        self._calls += 1
        try:
            yield client
        except MCPError as error:
            if error.code not in _LOST:
                raise
            reason = await _reason(holder, error)
            self._let_go(holder)
            raise reason from error
        except asyncio.CancelledError:
            if self._calls == 1:
                self._let_go(holder)
            raise
        finally:
            self._calls -= 1

    async def close(self) -> None:
        if self._holder:
            self._let_go(self._holder)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _made(self) -> tuple[Client, asyncio.Task[None]]:
        async with self._making:
            if self._client is None or self._holder is None or self._holder.done():
                await self._make()
            assert self._client and self._holder
            return self._client, self._holder

    async def _make(self) -> None:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._holder = holder = asyncio.create_task(self._hold(ready))
        holder.add_done_callback(lambda _: ready.cancel())
        try:
            self._client = await asyncio.shield(ready)
        except asyncio.CancelledError:
            self._let_go(holder)
            if not ready.cancelled():
                raise
            raise await _reason(holder, Gone("the server ended while it was asked who it is")) from None

    def _let_go(self, holder: asyncio.Task[None]) -> None:
        """Leaves the connection, in the background: a server process has some seconds to end."""
        if self._holder is holder:
            self._client = self._holder = None
        if not holder.done():
            holder.cancel()
        self._leaving.add(holder)
        holder.add_done_callback(self._left)

    def _left(self, holder: asyncio.Task[None]) -> None:
        self._leaving.discard(holder)
        if not holder.cancelled():
            holder.exception()  # was told to the calls that it ended

    async def _hold(self, ready: asyncio.Future[Client]) -> None:
        async with AsyncExitStack() as stack:
            if self._place.url is None:
                client = Client(stdio_client(self._program(self._place.command), errlog=sys.__stderr__ or sys.stderr))
            else:
                http = await stack.enter_async_context(self._http(self._place.url))
                client = Client(streamable_http_client(self._place.url, http_client=http, max_sse_event_size=self._ways.max_bytes))
            ready.set_result(await stack.enter_async_context(client))
            await asyncio.Event().wait()

    def _program(self, command: tuple[str, ...]) -> StdioServerParameters:
        if command[0] not in self._ways.mcp_commands:
            raise NotAllowed(f"the program {command[0]} may not be started: list it in SOMA_TOOL_MCP_COMMANDS")
        return StdioServerParameters(command=command[0], args=list(command[1:]))

    def _http(self, url: str) -> httpx2.AsyncClient:
        hosts = self._hosts or (template.host(url) or "",)
        return httpx2.AsyncClient(
            transport=Transport(self._ways.guard, hosts, self._ways.max_bytes),
            auth=self._with_headers,
            timeout=None,  # calls have their own
            trust_env=False,
        )

    def _with_headers(self, request: httpx2.Request) -> httpx2.Request:
        headers, _ = self._ways.secrets.filled(self._place.headers)
        request.headers.update(headers)
        return request


async def _reason(holder: asyncio.Task[None], error: Exception) -> Exception:
    """Why the connection ended, where its holder knows; else the error."""
    await asyncio.wait({holder}, timeout=ENDING_SECONDS)
    found = None if holder.cancelled() or not holder.done() else holder.exception()
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    match found:
        case Barred() | TooLong() | NotAllowed() | MissingSecret():
            return found
        case MCPError() if not isinstance(error, MCPError):
            return Gone(f"the server does not open a session: {found.message}")
        case OSError() | httpx2.ConnectError():
            return Gone(f"the server cannot be reached: {found}")
        case httpx2.HTTPError():
            return Gone(f"the connection to the server broke ({type(found).__name__})")
    return error
