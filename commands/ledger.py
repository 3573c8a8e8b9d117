"""Commands about one tool call of a session."""

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from commands import call as calling
from commands.call import Awaiting, Call, Running
from commands.decision import Refusal
from commands.draft import Draft
from commands.situation import Absent, Body, Ended, State, calls, guessed_of, talk_of, unknown_of
from commands.talk import Attempt, Talk
from schemas.types.common import CommandMeta, Sealed
from schemas.types.session import (
    ApproveCall,
    BeginCall,
    DenyCall,
    PassDeadline,
    RecordResult,
    SettleCall,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallReturned,
    ToolCallSettled,
)

Decision = list[Body] | Refusal
LATE = Refusal("late", "Nothing waits for this any more.")
DENIED = "A person denied this call."
"""What a model is told before the note, which alone is its result where it is sealed. Shorter than what sealing adds to a text."""
About = BeginCall | RecordResult | ApproveCall | DenyCall | SettleCall | PassDeadline


def decide(state: State, body: About, meta: CommandMeta) -> Decision:
    """A command about one tool call."""
    if isinstance(state, Absent):
        return gone(state)
    call = next((each for each in calls(state) if each.call == body.call), None)
    if call is None:
        return _settle(state, body)
    draft = Draft(state, meta)
    match body, call:
        case BeginCall(), _:
            tool = talk_of(state).terms.tool(call.tool)
            started = tool and calling.begin(call, tool, body.attempt, body.executor, meta.time)
            return [started] if started else Refusal("taken", "This attempt is another's, or was made before.")
        case RecordResult(), Running(attempt=attempt) if attempt == body.attempt:
            return draft.add(_result(talk_of(state), call, body, meta.time)).go_on()
        case SettleCall(), Running():
            return draft.add(_said(body, call.attempt)).go_on()
        case ((ApproveCall() | DenyCall()), _):
            return _judge(draft, call, body)
        case PassDeadline(), _ if meta.time >= call.deadline:
            return draft.add(calling.passed(talk_of(state), call, meta.time)).go_on()
        case PassDeadline(), _:
            return Refusal("not_due", "The call still has time.")
    return _late(state, body)


def _late(state: State, body: About) -> Refusal:
    """Too late. A bill that comes with it stands, unless the attempt was charged when nobody had told how it ended."""
    charged = isinstance(body, RecordResult) and Attempt(body.call, body.attempt) in guessed_of(state)
    return replace(LATE, charged=charged)


def _result(talk: Talk, call: Running, body: RecordResult, now: datetime) -> ToolCallFinished | ToolCallReturned:
    tool = talk.terms.tool(call.tool)
    if body.retry and tool and tool.repeat_safe and call.attempt < tool.attempts:
        reason = body.content if isinstance(body.content, str) else "It may work when it is tried again."
        return calling.returned(talk, call, reason, now, body.usage)
    return ToolCallFinished(
        call=body.call,
        attempt=body.attempt,
        outcome=body.outcome,
        content=body.content,
        digest=body.digest,
        bytes=body.bytes,
        artifact=body.artifact,
        usage=body.usage,
    )


def _said(body: SettleCall, attempt: int) -> ToolCallFinished:
    finished = ToolCallFinished(
        call=body.call, attempt=attempt, outcome=body.outcome, content=body.content, digest=body.digest, bytes=_size(body)
    )
    return replace(finished, note=body.note)


def _size(body: SettleCall) -> int:
    return len(body.content.encode() if isinstance(body.content, str) else body.content.ciphertext)


def _judge(draft: Draft, call: Call, body: ApproveCall | DenyCall) -> Decision:
    """What a person says about a call."""
    if not isinstance(call, Awaiting):
        return Refusal("not_waiting", "Nobody has to approve this call any more.")
    if isinstance(body, DenyCall):
        told = body.note if isinstance(body.note, Sealed) else " ".join(filter(None, (DENIED, body.note)))
        return draft.add(calling.finished(call.call, 0, "denied", told, body.note)).go_on()
    if body.digest != call.digest:
        return Refusal("changed", "The arguments are not those that were shown: look at the call again.")
    deadline = draft.now + timedelta(seconds=calling.BEGIN_SECONDS)
    digest = body.arguments_digest or body.digest
    return draft.add(ToolCallApproved(call=body.call, note=body.note, arguments=body.arguments, digest=digest, deadline=deadline)).events


def _settle(state: State, body: Any) -> Decision:
    """What is said about a call that is not open: one whose outcome was unknown is known now. It was charged when it became unknown."""
    unknown = next((each for each in unknown_of(state) if each.call == body.call), None)
    match body:
        case RecordResult() if unknown and unknown.attempt == body.attempt and body.outcome != "unknown":
            settled = ToolCallSettled(call=body.call, outcome=body.outcome, content=body.content, digest=body.digest)
            return [replace(settled, bytes=body.bytes, artifact=body.artifact)]
        case SettleCall() if unknown:
            settled = ToolCallSettled(call=body.call, outcome=body.outcome, content=body.content, digest=body.digest, note=body.note)
            return [replace(settled, bytes=_size(body))]
        case ApproveCall() | DenyCall() | SettleCall():
            return Refusal("no_such_call", "No open call of this session has this id: it is over, as its entry tells, or never was.")
    return _late(state, body)


def gone(state: Absent | Ended) -> Refusal:
    if isinstance(state, Ended):
        return Refusal("ended", f"The session has ended ({state.outcome}): start a new one.")
    return Refusal("not_found", "There is no session with this id.")
