"""What tenants used, by day, model and tool: sums over the events of their sessions, told here and nowhere else.

Over all lines they are what the sessions' own accounts come to (`projections/session.py`).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from projections.call import Call
from projections.session import Summary
from schemas.types.common import Refused, Usage
from schemas.types.session import (
    ReplyFailed,
    ReplyRecorded,
    SessionEvent,
    ToolCallFinished,
    ToolCallReturned,
    ToolCallSettled,
    ToolCallStarted,
)

BILLED = frozenset({ReplyRecorded, ReplyFailed, ToolCallStarted, ToolCallReturned, ToolCallFinished, ToolCallSettled, Refused})
"""The records that may add something."""
UNNAMED = "?"
"""Stands for a tool that is not known any more: its result was refused when very much had been begun after it."""


class Line(NamedTuple):
    """What is summed together. `model` is that of the session; `tool` is None for what the model itself used. `day` is in UTC."""

    tenant: str
    partition: int
    day: date
    model: str
    tool: str | None


class Used(NamedTuple):
    """Tokens read and written, millionths of the currency, replies of models, and tool calls that began."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    replies: int = 0
    tool_calls: int = 0


class Entry(NamedTuple):
    """What was used, and what of a line it is grouped by, by name."""

    of: dict[str, Any]
    used: Used


def added(event: SessionEvent, summary: Summary | None, calls: Mapping[str, Call]) -> tuple[Line, Used] | None:
    """What a record of BILLED adds, and to which line. `summary` is its session before it, `calls` the ledger before it.

    A record of another tenant adds nothing.
    """
    if summary is None or event.meta.tenant != summary.tenant:
        return None
    tool, used = _used(event, summary, calls)
    return (Line(summary.tenant, summary.partition, event.meta.time.date(), summary.model, tool), used) if any(used) else None


def _used(event: SessionEvent, summary: Summary, calls: Mapping[str, Call]) -> tuple[str | None, Used]:
    match body := event.body:
        case ReplyRecorded():
            return None, _billed(body.usage, replies=1)
        case ReplyFailed():
            return None, _billed(body.usage)
        case Refused():  # a model reads tokens, a tool does not
            used = _billed(body.usage)
            return None if used.input_tokens or used.output_tokens else summary.begun.get(event.meta.command_id, UNNAMED), used
        case ToolCallStarted():
            return _tool(body.call, calls), Used(tool_calls=int(body.attempt == 1))
        case ToolCallReturned() | ToolCallFinished() | ToolCallSettled():
            return _tool(body.call, calls), _billed(body.usage)
    return None, Used()


def _billed(usage: Usage | None, replies: int = 0) -> Used:
    return Used(usage.input_tokens, usage.output_tokens, usage.cost_micros, replies) if usage else Used(replies=replies)


def _tool(call: str, calls: Mapping[str, Call]) -> str:
    return calls[call].tool if call in calls else UNNAMED
