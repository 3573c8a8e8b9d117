"""What running one call of a tool means, whatever kind of tool it is."""

import asyncio
from typing import Any, Literal, Protocol

from msgspec import Struct

from ops.settings import Settings
from schemas.types.tool import Definition
from streams.tools.egress import Guard
from streams.tools.secrets import Secrets


class Call(Struct, frozen=True):
    """One attempt at a call. `id` is the same for every attempt: tools take it as their idempotency key."""

    id: str
    session_id: str
    tenant: str
    arguments: dict[str, Any]
    seconds: float
    """How long this attempt may take."""


class Result(Struct, frozen=True):
    """How an attempt ended."""

    outcome: Literal["ok", "error"]
    content: bytes
    """The whole result, or what went wrong in words that a model can use: UTF-8, text or JSON."""
    retry: bool = False
    """Another attempt may end better."""
    fault: bool = False
    """The tool failed, whatever it was asked: counts for its breaker."""
    unsure: bool = False
    """The call may have had its effect: the way to the tool broke before it answered."""


class Runner(Protocol):
    """Runs the calls of one tool, many at once. What goes wrong with a tool is a Result, never an exception."""

    async def run(self, call: Call) -> Result:
        """Takes at most `call.seconds`. Cancelling interrupts the effect: the request is dropped, the process is killed."""

    async def status(self, call_id: str) -> Result | None:
        """How a call ended whose outcome is unknown. None: the tool does not know it or cannot say; with `retry`: it may say later."""

    async def close(self) -> None:
        """Lets go of connections and processes."""


class Ways(Struct, frozen=True):
    """What the runners of a process share."""

    guard: Guard
    secrets: Secrets
    open_hosts: tuple[str, ...] = ()
    """Hosts that a tool may reach whose whole address is an argument."""
    mcp_commands: tuple[str, ...] = ()
    """Programs that may be started as MCP servers."""
    max_bytes: int = 8 << 20
    """The longest result."""
    memory_bytes: int = 512 << 20
    """Address space of a process that runs Python tools."""


def ways(settings: Settings) -> Ways:
    """The ways that the settings leave open."""
    return Ways(
        guard=Guard(settings.soma_tool_private_hosts),
        secrets=Secrets(settings.soma_secrets_dir),
        open_hosts=settings.soma_http_get_hosts,
        mcp_commands=settings.soma_tool_mcp_commands,
        max_bytes=settings.soma_tool_max_result_bytes,
        memory_bytes=settings.soma_tool_python_memory_bytes,
    )


def runner(definition: Definition, ways: Ways) -> Runner:
    """The runner of a definition in which `checks.check_definition` found nothing wrong."""
    if definition.http:
        from streams.tools.http import Http

        return Http(definition, definition.http, ways)
    if definition.mcp:
        from streams.tools.mcp import Mcp  # its imports take half a second: only where it is used

        return Mcp(definition, definition.mcp, ways)
    assert definition.python, f"the definition of {definition.name} says nowhere what runs it"
    from streams.tools.python import Python

    return Python(definition, definition.python, ways)


class Runners:
    """The runners of a process, each made when its tool's version is first used."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._made: dict[tuple[str, str, int], Runner] = {}

    def of(self, tenant: str, version: int, definition: Definition) -> Runner:
        """The one of this version of the tenant's tool."""
        key = (tenant, definition.name, version)
        if key not in self._made:
            self._made[key] = runner(definition, self._ways)
        return self._made[key]

    async def close(self) -> None:
        await asyncio.gather(*[each.close() for each in self._made.values()], return_exceptions=True)


def failed(message: str, *, retry: bool = False, fault: bool = False, unsure: bool = False) -> Result:
    """An error in words."""
    return Result("error", message.encode(errors="replace"), retry, fault, unsure)


def late(call: Call) -> Result:
    """What a call is answered that took its time and did not end."""
    return failed(f"no answer within {call.seconds:g} s", retry=True, fault=True, unsure=True)
