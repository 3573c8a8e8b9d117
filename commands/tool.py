"""The tool: a definition that sessions call by its name, and the breaker that keeps them from one which does not work.

A new version closes the breaker: what failed may be mended. Reports of calls from before the breaker's present situation change nothing.
"""

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands.decision import Refusal
from schemas.ids import derived_id, named_id
from schemas.types.common import CommandMeta
from schemas.types.tool import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    BreakerProbed,
    Definition,
    FailureNoted,
    FailuresForgotten,
    HalfOpenBreaker,
    ProbeTool,
    RegisterTool,
    ReportFailure,
    ReportSuccess,
    RestoreTool,
    RetireTool,
    ToolCommand,
    ToolEvent,
    ToolRegistered,
    ToolRestored,
    ToolRetired,
)

MAX_VERSIONS = 1_000
FAILURES = 5
"""So many in a row open the breaker."""
OPEN_SECONDS, OPEN_SECONDS_AT_MOST = 30, 600
"""How long it is open the first time; twice as long each time that a probe fails."""
PROBE_SECONDS = 60
"""A probe that nobody reported within this time may be followed by another."""

Body = (
    ToolRegistered
    | ToolRetired
    | ToolRestored
    | FailureNoted
    | FailuresForgotten
    | BreakerOpened
    | BreakerHalfOpened
    | BreakerProbed
    | BreakerClosed
)


class Closed(Struct, frozen=True, tag=True):
    """Calls go through; so many have failed in a row."""

    failures: int = 0


class Open(Struct, frozen=True, tag=True):
    """Calls are answered at once that the tool is unavailable, until then, the n-th time in a row."""

    until: datetime
    times: int


class HalfOpen(Struct, frozen=True, tag=True):
    """One call may try."""

    times: int


class Probing(Struct, frozen=True, tag=True):
    """This call tries; another one may after `until`."""

    times: int
    call: str
    until: datetime


Breaker = Closed | Open | HalfOpen | Probing


class Absent(Struct, frozen=True, tag=True):
    """Never registered."""


class Offered(Struct, frozen=True, tag=True):
    """Sessions may use it."""

    definition: Definition
    version: int
    breaker: Breaker


class Retired(Struct, frozen=True, tag=True):
    """No new session may use it; those that began with it go on."""

    definition: Definition
    version: int
    breaker: Breaker


State = Absent | Offered | Retired
initial: State = Absent()
Decision = list[Body] | Refusal


def decide(state: State, command: ToolCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    body, meta = command.body, command.meta
    if isinstance(body, RegisterTool):
        return _register(state, body, meta)
    if isinstance(state, Absent):
        return Refusal("not_found", "There is no tool of this name.")
    match body:
        case RetireTool():
            return _unchanged("It is retired already.") if isinstance(state, Retired) else [ToolRetired(reason=body.reason)]
        case RestoreTool():
            return [ToolRestored()] if isinstance(state, Retired) else _unchanged("It is not retired.")
        case ReportFailure():
            return _failed(state.breaker, body, meta)
        case ReportSuccess():
            return _worked(state.breaker, body)
        case ProbeTool():
            return _probe(state.breaker, body, meta)
        case HalfOpenBreaker():
            return _half_open(state.breaker, meta)
        case _:
            assert_never(body)


def evolve(state: State, event: ToolEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body, state:
        case ToolRegistered() as body, Absent() | Offered():
            return Offered(body.definition, body.version, Closed())
        case ToolRegistered() as body, Retired():
            return Retired(body.definition, body.version, Closed())
        case ToolRetired(), Offered(definition, version, breaker):
            return Retired(definition, version, breaker)
        case ToolRestored(), Retired(definition, version, breaker):
            return Offered(definition, version, breaker)
        case _, Offered() | Retired():
            return replace(state, breaker=_breaker(state.breaker, event))
    raise _cannot_follow(event, state)


def due(state: State) -> datetime | None:
    """When this state is to be changed by the clock."""
    breaker = None if isinstance(state, Absent) else state.breaker
    return breaker.until if isinstance(breaker, Open) else None


def when_due(state: State, tool_id: str) -> tuple[str, HalfOpenBreaker]:
    """The command, with its derived id, that a passed deadline turns into. Raises ValueError where `due` is None."""
    if (until := due(state)) is None:
        raise ValueError(f"{type(state).__name__} has no deadline")
    return derived_id(tool_id, "half open", until.isoformat()), HalfOpenBreaker()


def _breaker(breaker: Breaker, event: ToolEvent) -> Breaker:
    match event.body, breaker:
        case FailureNoted() as body, Closed():
            return Closed(body.in_a_row)
        case FailuresForgotten(), Closed():
            return Closed()
        case BreakerOpened() as body, Closed() | Probing():
            return Open(body.until, body.times)
        case BreakerHalfOpened(), Open(_, times):
            return HalfOpen(times)
        case BreakerProbed() as body, HalfOpen() | Probing():
            return Probing(breaker.times, body.call, body.until)
        case BreakerClosed(), Probing():
            return Closed()
    raise _cannot_follow(event, breaker)


def _register(state: State, body: RegisterTool, meta: CommandMeta) -> Decision:
    definition, version = body.definition, 0 if isinstance(state, Absent) else state.version
    if named_id(meta.tenant, "tool", definition.name) != meta.aggregate_id:
        return Refusal("misnamed", f"{definition.name} is not the name of this tool.")
    if not isinstance(state, Absent) and state.definition == definition:
        return _unchanged(f"This is what version {version} says.")
    if version >= MAX_VERSIONS:
        return Refusal("full", f"A tool has at most {MAX_VERSIONS} versions: register another one.")
    return [ToolRegistered(version=version + 1, definition=definition)]


def _failed(breaker: Breaker, body: ReportFailure, meta: CommandMeta) -> Decision:
    match breaker:
        case Closed(failures):
            noted = FailureNoted(call=body.call, reason=body.reason, in_a_row=failures + 1)
            return [noted] if noted.in_a_row < FAILURES else [noted, _opened(body, meta, times=1)]
        case Probing(times, call) if call == body.call:
            return [_opened(body, meta, times + 1)]
        case _:
            return _unchanged("The breaker is not closed, and this call is not the one that tries.")


def _worked(breaker: Breaker, body: ReportSuccess) -> Decision:
    match breaker:
        case Closed(failures) if failures:
            return [FailuresForgotten(call=body.call)]
        case Probing(_, call) if call == body.call:
            return [BreakerClosed(call=body.call)]
        case _:
            return _unchanged("This call does not tell whether the tool works again.")


def _probe(breaker: Breaker, body: ProbeTool, meta: CommandMeta) -> Decision:
    match breaker:
        case Closed():
            return Refusal("closed", "The tool works: call it without a probe.")
        case Open(until):
            return Refusal("open", f"The tool does not work: the next one may try at {until.isoformat()}.")
        case Probing(_, call, until) if meta.time < until:
            return Refusal("open", f"Call {call} tries whether the tool works.")
        case _:
            return [BreakerProbed(call=body.call, executor=body.executor, until=meta.time + timedelta(seconds=PROBE_SECONDS))]


def _half_open(breaker: Breaker, meta: CommandMeta) -> Decision:
    if isinstance(breaker, Open) and meta.time >= breaker.until:
        return [BreakerHalfOpened()]
    return Refusal("not_due", "The breaker is not open past its time.")


def _opened(body: ReportFailure, meta: CommandMeta, times: int) -> BreakerOpened:
    doublings = min(times - 1, 10)  # more of them would not fit into a timedelta
    seconds = min(OPEN_SECONDS << doublings, OPEN_SECONDS_AT_MOST)
    return BreakerOpened(until=meta.time + timedelta(seconds=seconds), reason=body.reason, times=times)


def _unchanged(reason: str) -> Refusal:
    return Refusal("unchanged", reason)


def _cannot_follow(event: ToolEvent, state: State | Breaker) -> ValueError:
    return ValueError(f"{type(event.body).__name__} cannot follow {type(state).__name__}: {event.meta.aggregate_id} v{event.meta.version}")
