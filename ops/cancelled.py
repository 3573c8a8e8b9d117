"""What was under way when a session was cancelled, told from its record: a line an effect.

The record proves that no effect began afterwards. It proves too which had begun; how far such a one came is known only where its
result arrived, too late.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schemas.ids import derived_id
from schemas.types.common import Refused, Usage
from schemas.types.session import (
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionCancelled,
    SessionEvent,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
    ToolCallSettled,
    ToolCallStarted,
)


class Effect(Struct, frozen=True):
    """A model call or a tool call that is not over. `result` is the id that the command with its result has, once it has begun."""

    name: str
    point: str
    result: str = ""


Effects = dict[str, Effect]


def told(events: Iterable[SessionEvent]) -> list[str]:
    """The lines; none where the session was not cancelled."""
    open: Effects = {}
    late: dict[str, str] = {}
    cancel: SessionEvent | None = None
    for event in events:
        if isinstance(event.body, SessionCancelled):
            cancel = event
        elif cancel is None:
            _take(open, event)
        elif isinstance(event.body, Refused):
            late[event.meta.command_id] = _late(event, cancel.meta.time, event.body)
        elif isinstance(event.body, ToolCallSettled) and event.body.call in open:
            open[event.body.call] = replace(open[event.body.call], point=f"its outcome became known later: {event.body.outcome}")
    if cancel is None:
        return []
    lines = [f"{effect.name}: {effect.point}{late.get(effect.result, '')}" for effect in open.values()]
    return lines or ["nothing was under way"]


def _take(open: Effects, event: SessionEvent) -> None:
    """Follow the effects that are not over."""
    meta, body = event.meta, event.body
    match body:
        case ReplyRequested():
            result = derived_id(meta.aggregate_id, "reply", meta.version)
            open["model"] = Effect(f"model call {meta.version}", "running, interrupted", result)
        case ReplyRecorded() | ReplyFailed():
            del open["model"]
        case ToolCallRequested():
            point = "waiting for an approval, never began" if body.approval else "queued, never began"
            open[body.call] = Effect(f"call {body.tool} {body.call}", point)
        case ToolCallFinished() if body.outcome == "unknown":
            open[body.call] = replace(open[body.call], point=f"attempt {body.attempt} was given up before: outcome unknown")
        case ToolCallFinished() | ToolCallSettled():
            open.pop(body.call, None)
        case ToolCallApproved() | ToolCallStarted() | ToolCallReturned():
            open[body.call] = _moved(open[body.call], body)


def _moved(effect: Effect, body: Any) -> Effect:
    match body:
        case ToolCallStarted():
            result = derived_id(body.call, "result", body.attempt, "")
            return replace(effect, point=f"attempt {body.attempt} running at executor {body.executor}: outcome unknown", result=result)
        case ToolCallReturned():
            return replace(effect, point=f"queued again after attempt {body.attempt}, which failed; the next one never began", result="")
        case _:
            return replace(effect, point="queued, never began")


def _late(event: SessionEvent, cancelled: datetime, body: Refused) -> str:
    after = (event.meta.time - cancelled).total_seconds()
    return f"; a result came {after:.3f} s after the cancel and was refused{_billed(body.usage)}"


def _billed(usage: Usage | None) -> str:
    if usage is None:
        return ""
    return f" (billed: {usage.input_tokens} + {usage.output_tokens} tokens, {usage.cost_micros} millionths)"
