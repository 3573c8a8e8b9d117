"""The situations a session can be in, and how each event changes them."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from commands import call as calling
from commands import talk as talking
from commands.call import Awaiting, Call, Calls
from commands.talk import MESSAGE_TOKENS, Stop, Talk, Unknown
from schemas.types.common import CommandMeta
from schemas.types.session import (
    MessagePosted,
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionCancelled,
    SessionClosed,
    SessionEvent,
    SessionExpired,
    SessionStarted,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
    ToolCallSettled,
    ToolCallStarted,
    TurnStopped,
)

Turn = MessagePosted | ReplyRequested | ReplyRecorded | ReplyFailed | TurnStopped
Calling = ToolCallRequested | ToolCallApproved | ToolCallStarted | ToolCallReturned | ToolCallFinished | ToolCallSettled
Body = SessionStarted | Turn | Calling | SessionCancelled | SessionClosed | SessionExpired


class Absent(Struct, frozen=True, array_like=True, tag=True):
    """Not started."""


class Idle(Struct, frozen=True, array_like=True, tag=True):
    """Waits for its caller, until `expires_at`."""

    talk: Talk
    expires_at: datetime


class Thinking(Struct, frozen=True, array_like=True, tag=True):
    """Waits for the model's answer to the ReplyRequested of version `request`, until `deadline`."""

    talk: Talk
    request: int
    deadline: datetime
    max_tokens: int | None = None


class Acting(Struct, frozen=True, array_like=True, tag=True):
    """Waits for the results of tool calls."""

    talk: Talk
    calls: Calls


class Waiting(Struct, frozen=True, array_like=True, tag=True):
    """Waits for a person to approve at least one of its tool calls."""

    talk: Talk
    calls: Calls


class Ended(Struct, frozen=True, array_like=True, tag=True):
    """Over: nothing changes it any more, save that a call of it whose outcome is `unknown` may become known."""

    outcome: str
    unknown: tuple[Unknown, ...] = ()


State = Absent | Idle | Thinking | Acting | Waiting | Ended
initial: State = Absent()


class Draft:
    """Events that are being decided, and the state after them."""

    def __init__(self, state: State, meta: CommandMeta) -> None:
        self.state, self.meta, self.now = state, meta, meta.time
        self.events: list[Any] = []

    def add(self, *bodies: Any) -> "Draft":
        for body in bodies:
            self.state = _after(self.state, body, self.now, 0)
            self.events.append(body)
        return self

    def go_on(self) -> list[Any]:
        """Once no call is open: ask the model again, or say why not. A session for one call ends with it."""
        if isinstance(self.state, Idle):
            direct = self.state.talk.terms.direct
            self.add(SessionClosed() if direct else talking.request(self.state.talk, self.now))
        return self.events


def evolve(state: State, event: SessionEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    try:
        return _after(state, event.body, event.meta.time, event.meta.version or 0)
    except (KeyError, ValueError) as error:
        kind, about = type(event.body).__name__, f"{event.meta.aggregate_id} v{event.meta.version}"
        raise ValueError(f"{kind} cannot follow {type(state).__name__}: {about}") from error


def _after(state: State, body: Any, now: datetime, version: int) -> State:
    if isinstance(body, ToolCallSettled):
        return _settled(state, body)
    if isinstance(body, Calling):
        return _after_call(state, body, now)
    match body, state:
        case SessionStarted(), Absent():
            return _idle(talking.opened(body, now), now)
        case MessagePosted(), Idle(talk):
            return _idle(talking.begun(talk, body.content), now)
        case ReplyRequested(), Idle(talk):
            return Thinking(replace(talk, steps=talk.steps + 1), version, body.deadline, body.max_tokens)
        case ReplyRecorded(), Thinking(talk):
            return _idle(_answered(talk, body), now)
        case ReplyFailed(), Thinking(talk):
            return _idle(talking.billed(talk, body.usage), now)
        case TurnStopped(), Idle(talk):
            return _idle(replace(talk, stop=None), now)
        case ((SessionCancelled() | SessionClosed() | SessionExpired()), (Idle(talk) | Thinking(talk) | Acting(talk) | Waiting(talk))):
            return Ended(_outcome(body), talk.unknown)
    raise ValueError(type(body).__name__)


def _after_call(state: State, body: Any, now: datetime) -> State:
    match body, state:
        case ToolCallRequested(), Idle(talk):
            return _acting(_wished(talk, body), calling.evolve((), body), now)
        case ToolCallRequested(), (Acting(talk, open) | Waiting(talk, open)):
            return _acting(_wished(talk, body), calling.evolve(open, body), now)
        case _, (Acting(talk, open) | Waiting(talk, open)):
            return _acting(_worked(talk, body, open, now), calling.evolve(open, body), now)
    raise ValueError(type(body).__name__)


def calls(state: State) -> Calls:
    """The tool calls that are open."""
    return state.calls if isinstance(state, Acting | Waiting) else ()


def talk_of(state: State) -> Talk:
    assert not isinstance(state, Absent | Ended)
    return state.talk


def unknown_of(state: State) -> tuple[Unknown, ...]:
    return () if isinstance(state, Absent) else state.unknown if isinstance(state, Ended) else state.talk.unknown


def _outcome(body: SessionCancelled | SessionClosed | SessionExpired) -> str:
    return type(body).__name__.removeprefix("Session").lower()


def _settled(state: State, body: ToolCallSettled) -> State:
    left = tuple(each for each in unknown_of(state) if each.call != body.call)
    if isinstance(state, Absent | Ended):
        return Ended(state.outcome, left) if isinstance(state, Ended) else state
    return replace(state, talk=replace(talking.billed(state.talk, body.usage), unknown=left))


def _answered(talk: Talk, body: ReplyRecorded) -> Talk:
    """After a reply. What the provider counted is the measure of the next prompt."""
    after, usage = talking.billed(talking.heard(talk, body.content), body.usage), body.usage
    if usage and usage.input_tokens:
        return replace(after, context=usage.input_tokens + usage.output_tokens + MESSAGE_TOKENS)
    return after


def _wished(talk: Talk, body: ToolCallRequested) -> Talk:
    heard = talking.heard(talk, body.arguments)
    return replace(heard, streak=calling.streak(talk, body.tool, body.digest))


def _worked(talk: Talk, body: Any, open: Calls, now: datetime) -> Talk:
    """After an event of one of the open calls."""
    match body:
        case ToolCallStarted():
            return calling.begun(talk, body.call, body.attempt)
        case ToolCallReturned():
            return talking.billed(talk, body.usage)
        case ToolCallFinished():
            after = talking.billed(talking.heard(talk, body.content), body.usage)
            if body.outcome == "unknown":
                return replace(after, unknown=(*after.unknown, _unknown(talk, calling.find(open, body.call), body.attempt, now)))
            if body.outcome in ("budget", "repeated") and isinstance(body.content, str):
                return replace(after, stop=Stop(body.outcome, body.content))
            return after
    return talk


def _unknown(talk: Talk, call: Call, attempt: int, now: datetime) -> Unknown:
    tool = talk.terms.tool(call.tool)
    return Unknown(call.call, attempt, call.tool, tool.version if tool else 0, now)


def _acting(talk: Talk, calls: Calls, now: datetime) -> State:
    if not calls:
        return _idle(talk, now)
    return (Waiting if any(isinstance(call, Awaiting) for call in calls) else Acting)(talk, calls)


def _idle(talk: Talk, now: datetime) -> Idle:
    return Idle(talk, now + timedelta(seconds=talk.terms.idle_seconds))
