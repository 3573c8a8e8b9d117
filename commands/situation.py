"""The situations a session can be in, and how each event changes them."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from commands import allotment
from commands import call as calling
from commands import talk as talking
from commands.allotment import Account
from commands.call import Awaiting, Call, Calls
from commands.talk import MESSAGE_TOKENS, Attempt, Stop, Talk, Unknown
from schemas.types.session import (
    AllotmentAsked,
    AllotmentReceived,
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
Drawn = AllotmentAsked | AllotmentReceived
Body = SessionStarted | Turn | Calling | Drawn | SessionCancelled | SessionClosed | SessionExpired


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


class Drawing(Struct, frozen=True, array_like=True, tag=True):
    """Waits until `deadline` for its tenant's budget, with calls that nobody may begin before its answer, or to ask the model."""

    talk: Talk
    calls: Calls
    deadline: datetime


class Ended(Struct, frozen=True, array_like=True, tag=True):
    """Over: nothing changes it any more, save that a call of it whose outcome is `unknown` may become known.

    `account` is there until the tenant's budget has back what the session held of it, `seal` for what is said of such a call, `guessed`
    for what is said too late.
    """

    outcome: str
    unknown: tuple[Unknown, ...] = ()
    account: Account | None = None
    seal: str | None = None
    guessed: tuple[Attempt, ...] = ()


State = Absent | Idle | Thinking | Acting | Waiting | Drawing | Ended
initial: State = Absent()


def evolve(state: State, event: SessionEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    try:
        return after(state, event.body, event.meta.time, event.meta.version or 0)
    except (KeyError, ValueError) as error:
        kind, about = type(event.body).__name__, f"{event.meta.aggregate_id} v{event.meta.version}"
        raise ValueError(f"{kind} cannot follow {type(state).__name__}: {about}") from error


def after(state: State, body: Any, now: datetime, version: int) -> State:
    """The state after what is not an event yet, but will be one at this time. Raises KeyError or ValueError where it cannot follow."""
    if isinstance(body, Calling):
        return _after_call(state, body, now)
    if isinstance(body, Drawn):
        return _after_draw(state, body, now)
    match body, state:
        case SessionStarted(), Absent():
            return _idle(talking.opened(body, now), now)
        case MessagePosted(), Idle(talk):
            return _idle(talking.begun(talk, body.content), now)
        case ReplyRequested(), Idle(talk):
            return Thinking(talking.stepped(talk), version, body.deadline, body.max_tokens)
        case ReplyRecorded(), Thinking(talk):
            return _idle(_answered(talk, body), now)
        case ReplyFailed(), Thinking(talk):
            return _idle(talking.billed(talk, body.usage), now)
        case TurnStopped(), Idle(talk) | Drawing(talk, ()):
            return _idle(replace(talk, stop=None), now)
        case ((SessionCancelled() | SessionClosed() | SessionExpired()), _) if not isinstance(state, Absent | Ended):
            talk = state.talk
            return Ended(_outcome(body), talk.unknown, allotment.over(_charged(state), now), talk.terms.seal, talk.guessed)
    raise ValueError(type(body).__name__)


def _charged(state: Idle | Thinking | Acting | Waiting | Drawing) -> Account | None:
    """The account at the end. What is in flight is charged at its upper bound: nobody will hear what it cost."""
    account = state.talk.account
    match state:
        case Thinking(talk) if account:
            return allotment.spent(account, talking.amounts(talking.reserved(talk, state.max_tokens)))
        case Acting(talk, open) | Waiting(talk, open) if account:
            return allotment.spent(account, calling.in_flight(talk, open))
    return account


def _after_draw(state: State, body: AllotmentAsked | AllotmentReceived, now: datetime) -> State:
    """After a draw or its answer: with calls that waited for it a session goes on acting, else it is idle and goes on from there."""
    account = account_of(state)
    if account is None:
        raise ValueError("it does not draw from its tenant's budget")
    account = allotment.asked(account, body) if isinstance(body, AllotmentAsked) else allotment.received(account, body)
    if isinstance(state, Ended):
        return replace(state, account=allotment.over(account, now))
    talk = replace(talk_of(state), account=account)
    match body, state:
        case AllotmentAsked(deadline=None), Idle():
            return replace(state, talk=talk)
        case AllotmentAsked(deadline=deadline), Idle() | Acting() | Waiting() if deadline:
            return Drawing(talk, calls(state), deadline)
        case AllotmentReceived(), Idle():
            return replace(state, talk=replace(talk, account=allotment.resting(account, now)))
        case AllotmentReceived(granted=None), Drawing():
            return replace(state, talk=talk)
        case AllotmentReceived(), Drawing(_, open):
            return _acting(talk, open, now)
    raise ValueError(type(body).__name__)


def _after_call(state: State, body: Any, now: datetime) -> State:
    match body, state:
        case ToolCallSettled(), _:
            return _settled(state, body)
        case ToolCallRequested(), Idle(talk):
            return _acting(_wished(talk, body), calling.evolve((), body), now)
        case ToolCallRequested(), (Acting(talk, open) | Waiting(talk, open)):
            return _acting(_wished(talk, body), calling.evolve(open, body), now)
        case ToolCallFinished(), Drawing(talk, open, deadline):
            left = calling.evolve(open, body)
            worked = _worked(talk, body, open, now)
            return Drawing(worked, left, deadline) if left else _idle(worked, now)
        case _, (Acting(talk, open) | Waiting(talk, open)):
            return _acting(_worked(talk, body, open, now), calling.evolve(open, body), now)
    raise ValueError(type(body).__name__)


def calls(state: State) -> Calls:
    """The tool calls that are open to be begun, approved or settled."""
    return state.calls if isinstance(state, Acting | Waiting) else ()


def calls_at_all(state: State) -> Calls:
    """Also those that wait for the tenant's budget."""
    return state.calls if isinstance(state, Drawing) else calls(state)


def talk_of(state: State) -> Talk:
    assert not isinstance(state, Absent | Ended)
    return state.talk


def account_of(state: State) -> Account | None:
    """What the session holds of its tenant's budget, where it draws from it."""
    return None if isinstance(state, Absent) else state.account if isinstance(state, Ended) else state.talk.account


def seal_of(state: State) -> str | None:
    """The id of the key that the session's text is sealed with, if it is."""
    return None if isinstance(state, Absent) else state.seal if isinstance(state, Ended) else state.talk.terms.seal


def unknown_of(state: State) -> tuple[Unknown, ...]:
    return () if isinstance(state, Absent) else state.unknown if isinstance(state, Ended) else state.talk.unknown


def guessed_of(state: State) -> tuple[Attempt, ...]:
    return () if isinstance(state, Absent) else state.guessed if isinstance(state, Ended) else state.talk.guessed


def _outcome(body: SessionCancelled | SessionClosed | SessionExpired) -> str:
    return type(body).__name__.removeprefix("Session").lower()


def _settled(state: State, body: ToolCallSettled) -> State:
    left = tuple(each for each in unknown_of(state) if each.call != body.call)
    if isinstance(state, Absent | Ended):
        return replace(state, unknown=left) if isinstance(state, Ended) else state
    return replace(state, talk=replace(talking.billed(state.talk, body.usage), unknown=left))


def _answered(talk: Talk, body: ReplyRecorded) -> Talk:
    """After a reply. What the provider counted is the measure of the next prompt."""
    billed, usage = talking.billed(talking.heard(talk, body.content), body.usage), body.usage
    if usage and usage.input_tokens:
        return replace(billed, context=usage.input_tokens + usage.output_tokens + MESSAGE_TOKENS)
    return billed


def _wished(talk: Talk, body: ToolCallRequested) -> Talk:
    heard = talking.heard(talk, body.arguments)
    return replace(heard, streak=calling.streak(talk, body.tool, body.digest))


def _worked(talk: Talk, body: Any, open: Calls, now: datetime) -> Talk:
    """After an event of one of the open calls."""
    match body:
        case ToolCallStarted():
            return calling.begun(talk, body.attempt)
        case ToolCallReturned():
            return talking.guessed(talk, body.call, body.attempt, body.usage)
        case ToolCallFinished(outcome="deadline" | "unknown"):
            charged = talking.guessed(talking.heard(talk, body.content), body.call, body.attempt, body.usage)
            if body.outcome == "deadline":
                return charged
            return replace(charged, unknown=(*charged.unknown, _unknown(talk, calling.find(open, body.call), body.attempt, now)))
        case ToolCallFinished():
            charged = talking.billed(talking.heard(talk, body.content), body.usage)
            if body.outcome in ("budget", "repeated") and isinstance(body.content, str):
                return replace(charged, stop=Stop(body.outcome, body.content))
            return charged
    return talk


def _unknown(talk: Talk, call: Call, attempt: int, now: datetime) -> Unknown:
    tool = talk.terms.tool(call.tool)
    return Unknown(call.call, attempt, call.tool, tool.version if tool else 0, now)


def _acting(talk: Talk, calls: Calls, now: datetime) -> State:
    if not calls:
        return _idle(talk, now)
    return (Waiting if any(isinstance(call, Awaiting) for call in calls) else Acting)(talk, calls)


def _idle(talk: Talk, now: datetime) -> Idle:
    resting = replace(talk, account=allotment.resting(talk.account, now)) if talk.account else talk
    return Idle(resting, now + timedelta(seconds=talk.terms.idle_seconds))
