"""The session: a conversation with a model. Its situations, and what each command does in each of them.

Tool calls will add the situations `Acting` and `Waiting` between a reply and the next request.
"""

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct

from commands.decision import Refusal
from schemas.ids import derived_id
from schemas.types.common import CommandMeta, CommandsLost, RecordVoided, Refused
from schemas.types.session import (
    CancelSession,
    CloseSession,
    ExpireSession,
    MessagePosted,
    PostMessage,
    RecordFailure,
    RecordReply,
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionCancelled,
    SessionClosed,
    SessionCommand,
    SessionEvent,
    SessionExpired,
    SessionStarted,
    StartSession,
)

MAX_MESSAGES = 1_000

Body = SessionStarted | MessagePosted | ReplyRequested | ReplyRecorded | ReplyFailed | SessionCancelled | SessionClosed | SessionExpired


class Terms(Struct, frozen=True):
    """What was agreed at the start and holds for the session's life."""

    model: str
    reply_seconds: int
    idle_seconds: int


class Absent(Struct, frozen=True, tag=True):
    """Not started."""


class Idle(Struct, frozen=True, tag=True):
    """Waits for its caller, until `expires_at`."""

    terms: Terms
    messages: int
    expires_at: datetime


class Thinking(Struct, frozen=True, tag=True):
    """Waits for the model's answer to the ReplyRequested of version `request`, until `deadline`."""

    terms: Terms
    messages: int
    request: int
    deadline: datetime


class Ended(Struct, frozen=True, tag=True):
    """Over: nothing changes it any more."""

    outcome: str


State = Absent | Idle | Thinking | Ended
initial: State = Absent()
Decision = list[Body] | Refusal


class ModelCall(Struct, frozen=True):
    """An effect that is outstanding: the model's answer to `request`, due by `deadline`."""

    model: str
    request: int
    deadline: datetime


def decide(state: State, command: SessionCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    match command.body:
        case StartSession():
            return _start(state, command.body, command.meta)
        case PostMessage():
            return _post(state, command.body, command.meta)
        case RecordReply():
            return _record_reply(state, command.body)
        case RecordFailure():
            return _record_failure(state, command.body)
        case CancelSession():
            return _cancel(state, command.body)
        case CloseSession():
            return _close(state)
        case ExpireSession():
            return _expire(state, command.meta)
        case _:
            assert_never(command.body)


def evolve(state: State, event: SessionEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body, state:
        case SessionStarted() as body, Absent():
            terms = Terms(body.model, body.reply_seconds, body.idle_seconds)
            return _idle(terms, 0, event.meta.time)
        case MessagePosted(), Idle(terms, messages):
            return _idle(terms, messages + 1, event.meta.time)
        case ReplyRequested() as body, Idle(terms, messages):
            return Thinking(terms, messages, event.meta.version or 0, body.deadline)
        case ReplyRecorded(), Thinking(terms, messages):
            return _idle(terms, messages + 1, event.meta.time)
        case ReplyFailed(), Thinking(terms, messages):
            return _idle(terms, messages, event.meta.time)
        case SessionCancelled(), Idle() | Thinking():
            return Ended("cancelled")
        case SessionClosed(), Idle():
            return Ended("closed")
        case SessionExpired(), Idle():
            return Ended("expired")
    raise ValueError(f"{type(event.body).__name__} cannot follow {type(state).__name__}: {event.meta.aggregate_id} v{event.meta.version}")


def outstanding(state: State) -> ModelCall | None:
    """The effect that this state waits for (rule 11)."""
    return ModelCall(state.terms.model, state.request, state.deadline) if isinstance(state, Thinking) else None


def due(state: State) -> datetime | None:
    """When this state is to be ended by the clock."""
    match state:
        case Idle():
            return state.expires_at
        case Thinking():
            return state.deadline
        case _:
            return None


def when_due(state: State, session_id: str) -> tuple[str, RecordFailure | ExpireSession]:
    """The command, with its derived id, that a passed deadline turns into. Raises ValueError where `due` is None."""
    match state:
        case Thinking():
            failure = RecordFailure(request=state.request, attempt="", code="deadline", reason="The model did not answer in time.")
            return result_id(session_id, state.request), failure
        case Idle():
            return derived_id(session_id, "expire", state.expires_at.isoformat()), ExpireSession()
        case _:
            raise ValueError(f"{type(state).__name__} has no deadline")


def result_id(session_id: str, request: int) -> str:
    """One id for every outcome of a model call, so that only its first one is recorded (rule 11)."""
    return derived_id(session_id, "reply", request)


def is_message(body: Body | Refused | CommandsLost | RecordVoided) -> bool:
    """Whether the event holds a message of the conversation, so that its place is kept (rule 8)."""
    return isinstance(body, MessagePosted | ReplyRecorded)


def _start(state: State, body: StartSession, meta: CommandMeta) -> Decision:
    if not isinstance(state, Absent):
        return Refusal("exists", "A session with this id was started before.")
    started = SessionStarted(model=body.model, metadata=body.metadata, reply_seconds=body.reply_seconds, idle_seconds=body.idle_seconds)
    if body.input is None:
        return [started]
    return [started, MessagePosted(content=body.input), _request(body.model, meta, body.reply_seconds)]


def _post(state: State, body: PostMessage, meta: CommandMeta) -> Decision:
    match state:
        case Idle(terms, messages):
            if messages > MAX_MESSAGES - 2:  # room for the reply too
                return Refusal("full", f"A session holds at most {MAX_MESSAGES} messages: start a new one.")
            return [MessagePosted(content=body.input), _request(terms.model, meta, terms.reply_seconds)]
        case Thinking():
            return Refusal("busy", "The model has not answered the last message yet: wait for its reply, or cancel.")
        case _:
            return _gone(state)


def _record_reply(state: State, body: RecordReply) -> Decision:
    if not isinstance(state, Thinking) or state.request != body.request:
        return Refusal("late", "Nothing waits for this reply any more.")
    return [
        ReplyRecorded(request=body.request, attempt=body.attempt, content=body.content, finish_reason=body.finish_reason, usage=body.usage)
    ]


def _record_failure(state: State, body: RecordFailure) -> Decision:
    if not isinstance(state, Thinking) or state.request != body.request:
        return Refusal("late", "Nothing waits for this reply any more.")
    return [ReplyFailed(request=body.request, attempt=body.attempt, code=body.code, reason=body.reason, usage=body.usage)]


def _cancel(state: State, body: CancelSession) -> Decision:
    return [SessionCancelled(reason=body.reason)] if isinstance(state, Idle | Thinking) else _gone(state)


def _close(state: State) -> Decision:
    match state:
        case Idle():
            return [SessionClosed()]
        case Thinking():
            return Refusal("busy", "The model has not answered the last message yet: wait for its reply, or cancel.")
        case _:
            return _gone(state)


def _expire(state: State, meta: CommandMeta) -> Decision:
    if isinstance(state, Idle) and meta.time >= state.expires_at:
        return [SessionExpired()]
    return Refusal("not_due", "The session is not idle past its time.")


def _gone(state: Absent | Ended) -> Refusal:
    if isinstance(state, Ended):
        return Refusal("ended", f"The session has ended ({state.outcome}): start a new one.")
    return Refusal("not_found", "There is no session with this id.")


def _request(model: str, meta: CommandMeta, reply_seconds: int) -> ReplyRequested:
    return ReplyRequested(model=model, deadline=meta.time + timedelta(seconds=reply_seconds))


def _idle(terms: Terms, messages: int, now: datetime) -> Idle:
    return Idle(terms, messages, now + timedelta(seconds=terms.idle_seconds))
