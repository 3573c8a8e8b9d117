"""The session as callers see it: folded from its events, here and nowhere else.

`Summary` is all of it but the text of its messages, so that a projector need not load them; `View` is the whole.
"""

from datetime import datetime
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands import situation
from commands.situation import Absent, Acting, Drawing, Ended, Idle, State, Thinking, Waiting
from projections import late
from projections.late import Begun
from projections.text import rfc3339
from schemas.chain import ChainBroken
from schemas.types.common import Refused, Sealed, Usage
from schemas.types.session import (
    MessagePosted,
    Origin,
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionEvent,
    SessionStarted,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallSettled,
    TurnStopped,
)

EVENTS = "soma.session.events"
NO_USAGE = Usage(input_tokens=0, output_tokens=0)


class Failure(Struct, frozen=True):
    """Why the last turn got no reply."""

    code: str
    reason: str | Sealed


class Wish(Struct, frozen=True):
    """A tool call as the model asked for it: `id` is the call's, `model_id` the one that the model gave it."""

    id: str
    model_id: str
    tool: str
    arguments: str | Sealed


class Message(Struct, frozen=True):
    """One message. `place` names its record in the events log, e.g. `e0-41`. Those of role `tool` are results: `call` says of which."""

    role: str
    content: str | Sealed
    at: datetime
    place: str
    calls: tuple[Wish, ...] = ()
    call: str | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """A session without its text. `command_offset` is the place of its last applied command, in `partition`."""

    id: str
    tenant: str
    partition: int
    model: str
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    state: State = situation.initial
    version: int = 0
    messages: int = 0
    command_offset: int = -1
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    error: Failure | None = None
    agent: str | None = None
    origin: Origin | None = None
    begun: Begun = {}
    started_by: str = ""

    @property
    def status(self) -> str:
        """The name of the state's situation."""
        match self.state:
            case Absent() | Idle():
                return "idle"
            case Thinking() | Drawing():
                return "thinking"
            case Acting():
                return "acting"
            case Waiting():
                return "waiting"
            case Ended():
                return "ended"
            case _:
                assert_never(self.state)

    @property
    def outcome(self) -> str | None:
        """How it ended, if it did."""
        return self.state.outcome if isinstance(self.state, Ended) else None

    @property
    def seal(self) -> str | None:
        """The id of the key that its text is sealed with, if it is."""
        return situation.seal_of(self.state)

    @property
    def position(self) -> str:
        """Consistency token of the last applied command."""
        return f"{self.partition}:{self.command_offset}"


class View(Struct, frozen=True):
    """A session with its messages; without a summary while it is not started."""

    summary: Summary | None = None
    messages: tuple[Message, ...] = ()


def evolve(view: View, event: SessionEvent, place: str) -> View:
    """The view after a valid record of this session that lies at `place`. Raises ChainBroken as `summarize` does."""
    summary, body = summarize(view.summary, event), event.body
    match body:
        case SessionStarted():
            return View(summary, tuple(Message(said.role, said.content, event.meta.time, place) for said in body.history))
        case MessagePosted():
            return View(summary, (*view.messages, Message("user", body.content, event.meta.time, place)))
        case ReplyRecorded():
            return View(summary, (*view.messages, Message("assistant", body.content, event.meta.time, place)))
        case ToolCallRequested():
            return View(summary, _wished(view.messages, body, event.meta.time, place))
        case ToolCallFinished():
            return View(summary, (*view.messages, Message("tool", body.content, event.meta.time, place, call=body.call)))
        case ToolCallSettled():
            return View(summary, tuple(replace(each, content=body.content) if each.call == body.call else each for each in view.messages))
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
    usage: Usage = getattr(body, "usage", None) or NO_USAGE
    return Summary(
        id=summary.id,
        tenant=summary.tenant,
        partition=summary.partition,
        model=summary.model,
        metadata=summary.metadata,
        created_at=summary.created_at,
        updated_at=meta.time,
        state=situation.evolve(summary.state, event),
        version=meta.version,
        messages=summary.messages + isinstance(body, MessagePosted | ReplyRecorded | ToolCallFinished),
        command_offset=_applied(summary, event),
        input_tokens=summary.input_tokens + usage.input_tokens,
        output_tokens=summary.output_tokens + usage.output_tokens,
        cost_micros=summary.cost_micros + usage.cost_micros,
        error=_error(summary, event),
        agent=summary.agent,
        origin=summary.origin,
        begun=late.evolve(summary.begun, summary.state, event),
        started_by=summary.started_by,
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
        "agent": summary.agent,
        "origin": summary.origin and {"session_id": summary.origin.session_id, "version": summary.origin.version},
        "version": summary.version,
        "position": summary.position,
        "metadata": summary.metadata,
        "error": error and {"code": error.code, "reason": shown_text(error.reason)},
        "usage": {
            "input_tokens": summary.input_tokens,
            "output_tokens": summary.output_tokens,
            "cost_micros": summary.cost_micros,
        },
        "created_at": rfc3339(summary.created_at),
        "updated_at": rfc3339(summary.updated_at),
    }


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
        messages=len(event.body.history),
        agent=event.body.agent,
        origin=event.body.origin,
        started_by=event.meta.actor,
    )


def _refused(summary: Summary, event: SessionEvent) -> Summary:
    body = event.body
    if event.meta.tenant != summary.tenant or not isinstance(body, Refused):
        return summary
    usage = body.usage or NO_USAGE
    return replace(
        summary,
        command_offset=_applied(summary, event),
        input_tokens=summary.input_tokens + usage.input_tokens,
        output_tokens=summary.output_tokens + usage.output_tokens,
        cost_micros=summary.cost_micros + usage.cost_micros,
    )


def _applied(summary: Summary, event: SessionEvent) -> int:
    return event.meta.command.offset if event.meta.index == event.meta.count - 1 else summary.command_offset


def _error(summary: Summary, event: SessionEvent) -> Failure | None:
    match event.body:
        case ReplyFailed() | TurnStopped() as body:
            return Failure(body.code, body.reason)
        case ReplyRequested():
            return None
        case _:
            return summary.error


def _wished(messages: tuple[Message, ...], body: ToolCallRequested, at: datetime, place: str) -> tuple[Message, ...]:
    """With the call beside the others of its reply; a session for one call has no reply that asked."""
    wish = Wish(body.call, body.model_id, body.tool, body.arguments)
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant":
            asked = replace(messages[index], calls=(*messages[index].calls, wish))
            return (*messages[:index], asked, *messages[index + 1 :])
    return (*messages, Message("assistant", "", at, place, (wish,)))


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "role": message.role,
        "content": shown_text(message.content),
        "at": rfc3339(message.at),
        "place": message.place,
    }
    if message.calls:
        shown["tool_calls"] = [{"id": each.id, "tool": each.tool, "arguments": shown_text(each.arguments)} for each in message.calls]
    if message.call:
        shown["call"] = message.call
    return shown


def shown_text(content: str | Sealed) -> str | dict[str, str]:
    """Text, or which key it was sealed with."""
    return content if isinstance(content, str) else {"sealed": content.key_id}
