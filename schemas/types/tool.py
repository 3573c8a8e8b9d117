"""Generated from schemas/avro/tool/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class BreakerClosed(Struct, frozen=True, kw_only=True, tag=True):
    """The tool works again."""

    call: str


class BreakerHalfOpened(Struct, frozen=True, kw_only=True, tag=True):
    """One call may try."""


class BreakerOpened(Struct, frozen=True, kw_only=True, tag=True):
    """Calls are answered at once that the tool is unavailable."""

    until: datetime
    reason: str
    times: int


class BreakerProbed(Struct, frozen=True, kw_only=True, tag=True):
    """This call tries."""

    call: str
    executor: str
    until: datetime


class Http(Struct, frozen=True, kw_only=True):
    """A tool behind an HTTP address."""

    method: str
    url: str
    headers: dict[str, str] = {}
    status_url: str | None = None


class Mcp(Struct, frozen=True, kw_only=True):
    """A tool of an MCP server."""

    tool: str
    url: str | None = None
    command: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class Python(Struct, frozen=True, kw_only=True):
    """A function that is installed beside the executor."""

    entry_point: str


class Definition(Struct, frozen=True, kw_only=True):
    """What a tool is: exactly one of http, mcp and python is given."""

    name: str
    description: str
    parameters: str
    result: str | None = None
    http: Http | None = None
    mcp: Mcp | None = None
    python: Python | None = None
    repeat: str
    timeout_seconds: int
    attempts: int
    cost_micros: int = 0
    approval: str
    approval_when: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    concurrency: int = 8


class FailureNoted(Struct, frozen=True, kw_only=True, tag=True):
    """The tool failed; so many in a row open its breaker."""

    call: str
    reason: str
    in_a_row: int


class FailuresForgotten(Struct, frozen=True, kw_only=True, tag=True):
    """The tool works: the failures in a row are over."""

    call: str


class HalfOpenBreaker(Struct, frozen=True, kw_only=True, tag=True):
    """The breaker has been open for its time."""


class ProbeTool(Struct, frozen=True, kw_only=True, tag=True):
    """Its breaker is half open: this call would try whether the tool works."""

    call: str
    executor: str


class RegisterTool(Struct, frozen=True, kw_only=True, tag=True):
    """Define a tool, or a new version of it."""

    definition: Definition


class ReportFailure(Struct, frozen=True, kw_only=True, tag=True):
    """The tool could not do its work, whatever it was asked."""

    call: str
    reason: str


class ReportSuccess(Struct, frozen=True, kw_only=True, tag=True):
    """The tool answered."""

    call: str


class RestoreTool(Struct, frozen=True, kw_only=True, tag=True):
    """It may be used again."""


class RetireTool(Struct, frozen=True, kw_only=True, tag=True):
    """No new session may use it."""

    reason: str | None = None


class ToolCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.tool.commands."""

    meta: CommandMeta
    body: RegisterTool | RetireTool | RestoreTool | ReportFailure | ReportSuccess | ProbeTool | HalfOpenBreaker


class ToolRegistered(Struct, frozen=True, kw_only=True, tag=True):
    """A version of the tool."""

    version: int
    definition: Definition


class ToolRetired(Struct, frozen=True, kw_only=True, tag=True):
    """No new session may use it."""

    reason: str | None = None


class ToolRestored(Struct, frozen=True, kw_only=True, tag=True):
    """It may be used again."""


class ToolEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.tool.events."""

    meta: EventMeta
    body: ToolRegistered | ToolRetired | ToolRestored | FailureNoted | FailuresForgotten | BreakerOpened | BreakerHalfOpened | BreakerProbed | BreakerClosed | Refused | CommandsLost | RecordVoided
