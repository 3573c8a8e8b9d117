"""The session as callers see it: folded from its events, here and nowhere else.

`Summary` is all of it but the text of its messages, so that a projector need not load them; `View` is the whole.
"""

from datetime import UTC, datetime
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands import session as decider
from commands.session import Absent, Ended, Idle, State, Thinking
from schemas.chain import ChainBroken
from schemas.types.common import Refused, Sealed, Usage
from schemas.types.session import MessagePosted, ReplyFailed, ReplyRecorded, ReplyRequested, SessionEvent, SessionStarted


class Failure(Struct, frozen=True):
    """Why the last turn got no reply."""

    code: str
    reason: str


class Message(Struct, frozen=True):
    """One message. `place` names its record in the events log, e.g. `e0-41`."""

    role: str
    content: str | Sealed
    at: datetime
    place: str


class Summary(Struct, frozen=True, kw_only=True):
    """A session without its text. `command_offset` is the place of its last applied command, in `partition`."""

    id: str
    tenant: str
    partition: int
    model: str
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    state: State = decider.initial
    version: int = 0
    messages: int = 0
    command_offset: int = -1
    input_tokens: int = 0
    output_tokens: int = 0
    error: Failure | None = None

    @property
    def status(self) -> str:
        """The name of the state's situation."""
        match self.state:
            case Absent() | Idle():
                return "idle"
            case Thinking():
                return "thinking"
            case Ended():
                return "ended"
            case _:
                assert_never(self.state)

    @property
    def outcome(self) -> str | None:
        """How it ended, if it did."""
        return self.state.outcome if isinstance(self.state, Ended) else None

    @property
    def position(self) -> str:
        """Consistency token of the last applied command."""
        return f"{self.partition}:{self.command_offset}"


class View(Struct, frozen=True):
    """A session with its messages; without a summary while it is not started."""

    summary: Summary | None = None
    messages: tuple[Message, ...] = ()


def place(partition: int, offset: int) -> str:
    """A place in the events log, written so that it cannot be taken for a position."""
    return f"e{partition}-{offset}"


def evolve(view: View, event: SessionEvent, place: str) -> View:
    """The view after a valid record of this session that lies at `place`. Raises ChainBroken as `summarize` does."""
    summary, body = summarize(view.summary, event), event.body
    match body:
        case MessagePosted():
            return View(summary, (*view.messages, Message("user", body.content, event.meta.time, place)))
        case ReplyRecorded():
            return View(summary, (*view.messages, Message("assistant", body.content, event.meta.time, place)))
        case _:
            return View(summary, view.messages)


def summarize(summary: Summary | None, event: SessionEvent) -> Summary | None:
    """The summary after a valid record of this session.

    A record of another tenant changes nothing. Raises ChainBroken where versions are not contiguous (the cross-check of rule 2).
    """
    meta = event.meta
    if meta.version is None:
        return summary and _refused(summary, event)
    if meta.version != (summary.version if summary else 0) + 1:
        raise ChainBroken(f"{meta.aggregate_id} has version {meta.version} after {summary.version if summary else 0}")
    summary = summary or _started(event)
    body = event.body
    usage = body.usage if isinstance(body, ReplyRecorded | ReplyFailed) else None
    return Summary(
        id=summary.id,
        tenant=summary.tenant,
        partition=summary.partition,
        model=summary.model,
        metadata=summary.metadata,
        created_at=summary.created_at,
        updated_at=meta.time,
        state=decider.evolve(summary.state, event),
        version=meta.version,
        messages=summary.messages + decider.is_message(body),
        command_offset=_applied(summary, event),
        input_tokens=summary.input_tokens + (usage.input_tokens if usage else 0),
        output_tokens=summary.output_tokens + (usage.output_tokens if usage else 0),
        error=_error(summary, event),
    )


def document(view: View) -> dict[str, Any]:
    """The answer of a GET, ready for JSON. Raises ValueError where the session is not started."""
    if view.summary is None:
        raise ValueError("a session that is not started has no document")
    return {**overview(view.summary), "messages": [_message(message) for message in view.messages]}


def overview(summary: Summary) -> dict[str, Any]:
    """An entry of a list, ready for JSON: a document without messages."""
    error = summary.error
    return {
        "id": summary.id,
        "status": summary.status,
        "outcome": summary.outcome,
        "model": summary.model,
        "version": summary.version,
        "position": summary.position,
        "metadata": summary.metadata,
        "error": error and {"code": error.code, "reason": error.reason},
        "usage": {"input_tokens": summary.input_tokens, "output_tokens": summary.output_tokens},
        "created_at": rfc3339(summary.created_at),
        "updated_at": rfc3339(summary.updated_at),
    }


def rfc3339(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _started(event: SessionEvent) -> Summary:
    if not isinstance(event.body, SessionStarted):
        raise ChainBroken(f"{event.meta.aggregate_id} begins with {type(event.body).__name__}")
    return Summary(
        id=event.meta.aggregate_id,
        tenant=event.meta.tenant,
        partition=event.meta.command.partition,
        model=event.body.model,
        metadata=event.body.metadata,
        created_at=event.meta.time,
        updated_at=event.meta.time,
    )


def _refused(summary: Summary, event: SessionEvent) -> Summary:
    body = event.body
    if event.meta.tenant != summary.tenant or not isinstance(body, Refused):
        return summary
    usage = body.usage or Usage(input_tokens=0, output_tokens=0)
    return replace(
        summary,
        command_offset=_applied(summary, event),
        input_tokens=summary.input_tokens + usage.input_tokens,
        output_tokens=summary.output_tokens + usage.output_tokens,
    )


def _applied(summary: Summary, event: SessionEvent) -> int:
    return event.meta.command.offset if event.meta.index == event.meta.count - 1 else summary.command_offset


def _error(summary: Summary, event: SessionEvent) -> Failure | None:
    match event.body:
        case ReplyFailed() as body:
            return Failure(body.code, body.reason)
        case ReplyRequested():
            return None
        case _:
            return summary.error


def _message(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else {"sealed": message.content.key_id}
    return {"role": message.role, "content": content, "at": rfc3339(message.at), "place": message.place}
