"""One tool call of a session: from the model's wish to a result that counts (the ledger)."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from commands.talk import MAX_REPEATS, Stop, Streak, Talk, over, spent
from schemas.chain import digest
from schemas.ids import derived_id
from schemas.types.common import Amounts, Sealed, Usage
from schemas.types.session import (
    AskedCall,
    Tool,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
    ToolCallStarted,
)

MAX_CALLS = 32
"""Calls in one reply."""
APPROVAL_SECONDS = 3_600
BEGIN_SECONDS = 60
"""A call that no executor has begun by then is given up."""
GRACE_SECONDS = 5
"""What an attempt has besides its tool's time, so that its executor says first how it ended."""


class Awaiting(Struct, frozen=True, array_like=True, tag=True):
    """A person has to approve it, until `deadline`."""

    call: str
    tool: str
    digest: bytes
    deadline: datetime


class Queued(Struct, frozen=True, array_like=True, tag=True):
    """Any executor may begin this attempt, until `deadline`."""

    call: str
    tool: str
    attempt: int
    deadline: datetime


class Running(Struct, frozen=True, array_like=True, tag=True):
    """An executor has begun: from here on it may have had its effect."""

    call: str
    tool: str
    attempt: int
    executor: str
    deadline: datetime


Call = Awaiting | Queued | Running
Calls = tuple[Call, ...]


def asked(talk: Talk, calls: Calls, call: AskedCall, id: str, now: datetime) -> list[Any]:
    """The events of a call that a model asks for beside those that are open: one that cannot be run is finished at once."""
    tool = talk.terms.tool(call.tool)
    approval = tool is not None and (tool.approval == "always" or (tool.approval == "when" and call.needs_approval))
    requested = ToolCallRequested(
        call=id,
        model_id=call.model_id,
        tool=call.tool,
        version=tool.version if tool else 0,
        arguments=call.arguments,
        digest=call.digest,
        approval=approval,
        deadline=_until(talk, now, APPROVAL_SECONDS if approval else BEGIN_SECONDS),
    )
    if tool is None:
        names = ", ".join(sorted(tool.name for tool in talk.terms.tools)) or "none"
        return [requested, finished(id, 0, "refused", f"There is no tool {call.tool[:64]!r} here. There are: {names}.")]
    if call.problem:
        return [requested, finished(id, 0, "invalid", call.problem)]
    if stop := _stop(talk, calls, call, tool):
        return [requested, finished(id, 0, stop.code, stop.reason)]
    return [requested]


def streak(talk: Talk, tool: str, arguments: bytes) -> Streak:
    """With one more wish for this call."""
    last = talk.streak
    again = last is not None and (last.tool, last.digest) == (tool, arguments)
    return Streak(tool, arguments, last.times + 1 if last and again else 1)


def evolve(calls: Calls, body: Any) -> Calls:
    """The open calls after an event of one of them. Raises KeyError where it is not open."""
    match body:
        case ToolCallRequested() if body.approval:
            return (*calls, Awaiting(body.call, body.tool, body.digest, body.deadline))
        case ToolCallRequested():
            return (*calls, Queued(body.call, body.tool, 1, body.deadline))
        case ToolCallApproved():
            return _with(calls, body.call, Queued(body.call, find(calls, body.call).tool, 1, body.deadline))
        case ToolCallStarted():
            running = Running(body.call, find(calls, body.call).tool, body.attempt, body.executor, body.deadline)
            return _with(calls, body.call, running)
        case ToolCallReturned():
            queued = Queued(body.call, find(calls, body.call).tool, body.attempt + 1, body.deadline)
            return _with(calls, body.call, queued)
        case ToolCallFinished():
            find(calls, body.call)
            return tuple(call for call in calls if call.call != body.call)
    raise KeyError(type(body).__name__)


def find(calls: Calls, id: str) -> Call:
    """Raises KeyError."""
    for call in calls:
        if call.call == id:
            return call
    raise KeyError(id)


def begin(call: Call, tool: Tool, attempt: int, executor: str, now: datetime) -> ToolCallStarted | None:
    """The attempt that begins; None where it is another's, was made before, or may not be made.

    One that runs elsewhere is begun again only by who knows that its executor is lost, and only where the tool may be run again.
    """
    match call:
        case Queued() if attempt == call.attempt:
            pass
        case Running() if attempt == call.attempt + 1 <= tool.attempts and tool.repeat_safe and executor != call.executor:
            pass
        case _:
            return None
    deadline = now + timedelta(seconds=tool.timeout_seconds + GRACE_SECONDS)
    return ToolCallStarted(call=call.call, attempt=attempt, executor=executor, deadline=deadline)


def passed(talk: Talk, call: Call, now: datetime) -> ToolCallFinished | ToolCallReturned:
    """What becomes of a call whose deadline is over."""
    match call:
        case Awaiting():
            return finished(call.call, 0, "denied", "Nobody approved this call in time.")
        case Queued():
            return finished(call.call, call.attempt - 1, "deadline", "No executor began this call in time.")
        case Running():
            tool = talk.terms.tool(call.tool)
            if tool is None or not tool.repeat_safe:
                text = "Nobody knows whether this call had its effect: its executor did not say how it ended. Do not repeat it by yourself."
                return finished(call.call, call.attempt, "unknown", text, usage=_paid(tool))
            if call.attempt < tool.attempts:
                return returned(talk, call, "Its executor did not say how it ended.", now, _paid(tool))
            return finished(call.call, call.attempt, "deadline", "The tool did not answer in time.", usage=_paid(tool))


def returned(talk: Talk, call: Running, reason: str, now: datetime, usage: Usage | None) -> ToolCallReturned:
    """An attempt without a result that counts, where another one may be made."""
    return ToolCallReturned(
        call=call.call, attempt=call.attempt, reason=reason[:500], deadline=_until(talk, now, BEGIN_SECONDS), usage=usage
    )


def finished(
    call: str, attempt: int, outcome: str, text: str | Sealed, note: str | Sealed | None = None, usage: Usage | None = None
) -> ToolCallFinished:
    """An end that no tool gave. Of sealed text the digest is that of its ciphertext: nobody here can make another."""
    data = text.encode() if isinstance(text, str) else text.ciphertext
    return ToolCallFinished(
        call=call, attempt=attempt, outcome=outcome, content=text, digest=digest(data), bytes=len(data), note=note, usage=usage
    )


def id_of(session_id: str, request: int, index: int) -> str:
    """The id of a call, and the idempotency key that its tool is given: unique everywhere, the same in every replay."""
    return derived_id(session_id, "call", request, index)


def begun(talk: Talk, attempt: int) -> Talk:
    """The account after an attempt began: the first one counts."""
    return spent(talk, Amounts(calls=1)) if attempt == 1 else talk


def need(talk: Talk, calls: Calls) -> Amounts:
    """The most that calls take of which none has begun."""
    return Amounts(calls=len(calls), cost_micros=sum(_most(talk, call.tool) for call in calls))


def in_flight(talk: Talk, calls: Calls) -> Amounts:
    """What the attempts that run cost, where nobody will say how they ended."""
    tools = [talk.terms.tool(call.tool) for call in calls if isinstance(call, Running)]
    return Amounts(cost_micros=sum(tool.cost_micros for tool in tools if tool))


def _stop(talk: Talk, calls: Calls, call: AskedCall, tool: Tool) -> Stop | None:
    if streak(talk, call.tool, call.digest).times > MAX_REPEATS:
        return Stop("repeated", f"The same call of {call.tool!r} with the same arguments was asked for {MAX_REPEATS + 1} times in a row.")
    waiting = [each for each in calls if not isinstance(each, Running) and not (isinstance(each, Queued) and each.attempt > 1)]
    micros = sum(_most(talk, each.tool) for each in calls)
    return over(talk, len(waiting), micros, _most(talk, tool.name))


def _paid(tool: Tool | None) -> Usage | None:
    """What an attempt cost of which nobody says how it ended."""
    return Usage(input_tokens=0, output_tokens=0, cost_micros=tool.cost_micros) if tool else None


def _most(talk: Talk, name: str) -> int:
    """What all attempts of a call can cost."""
    tool = talk.terms.tool(name)
    return tool.cost_micros * (tool.attempts if tool.repeat_safe else 1) if tool else 0


def _until(talk: Talk, now: datetime, seconds: int) -> datetime:
    deadline = now + timedelta(seconds=seconds)
    return min(deadline, talk.terms.until) if talk.terms.until else deadline


def _with(calls: Calls, id: str, changed: Call) -> Calls:
    return tuple(changed if call.call == id else call for call in calls)
