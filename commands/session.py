"""The session: a conversation with a model that may call tools. What each command does in each of its situations.

`commands/situation.py` has the situations, `commands/draft.py` how the events of a command are put together, `commands/ledger.py` the
commands about tool calls, `commands/call.py` what becomes of one call, `commands/talk.py` the session's account and budget,
`commands/drawing.py` how it draws from its tenant's.
"""

from datetime import datetime
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands import allotment, drawing, ledger
from commands import call as calling
from commands import talk as talking
from commands.allotment import Ask
from commands.decision import Refusal
from commands.draft import Draft
from commands.ledger import LATE, Decision, gone
from commands.situation import Absent, Acting, Body, Drawing, Ended, Idle, State, Thinking, Waiting, account_of, calls, talk_of
from commands.talk import MAX_MESSAGES
from schemas.ids import derived_id
from schemas.types.common import CommandMeta, CommandsLost, RecordVoided, Refused, Usage
from schemas.types.session import (
    ApproveCall,
    AskedCall,
    BeginCall,
    CancelSession,
    CloseSession,
    DenyCall,
    ExpireSession,
    MessagePosted,
    PassAllotment,
    PassDeadline,
    PostMessage,
    Price,
    RecordAllotment,
    RecordFailure,
    RecordReply,
    RecordResult,
    ReplyFailed,
    ReplyRecorded,
    SessionCancelled,
    SessionClosed,
    SessionCommand,
    SessionExpired,
    SessionStarted,
    SettleCall,
    StartSession,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallSettled,
    TurnStopped,
)


def decide(state: State, command: SessionCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    meta = command.meta
    match command.body:
        case StartSession() as body:
            return _start(state, body, meta)
        case PostMessage() as body:
            return _post(state, body, meta)
        case RecordReply() | RecordFailure() as body:
            return _answered(state, body, meta)
        case CancelSession() as body:
            return _cancel(state, body)
        case CloseSession():
            return _close(state)
        case ExpireSession():
            return _expire(state, meta)
        case BeginCall() | RecordResult() | ApproveCall() | DenyCall() | SettleCall() | PassDeadline() as body:
            return ledger.decide(state, body, meta)
        case RecordAllotment() | PassAllotment() as body:
            return drawing.decide(state, body, meta)
        case _:
            assert_never(command.body)


class ModelCall(Struct, frozen=True):
    """An effect that is outstanding: the model's answer to `request`, due by `deadline`, sealed with the key `seal` if there is one."""

    model: str
    request: int
    deadline: datetime
    max_tokens: int | None = None
    tools: tuple[tuple[str, int], ...] = ()
    price: Price | None = None
    seal: str | None = None


def outstanding(state: State) -> ModelCall | Ask | None:
    """The effect that this state waits for (rule 11). Tool calls are for executors: see `calls`."""
    if not isinstance(state, Thinking):
        account = account_of(state)
        return account.ask if account else None
    terms = state.talk.terms
    tools = tuple((tool.name, tool.version) for tool in terms.tools)
    return ModelCall(terms.model, state.request, state.deadline, state.max_tokens, tools, terms.price, terms.seal)


def due(state: State) -> datetime | None:
    """When this state is to be ended by the clock."""
    match state:
        case Idle():
            returns = allotment.returns(state.talk.account)
            return min(state.expires_at, returns) if returns else state.expires_at
        case Thinking() | Drawing():
            return state.deadline
        case Acting() | Waiting():
            return min(call.deadline for call in state.calls)
        case Ended():
            return allotment.returns(state.account)
        case _:
            return None


def when_due(state: State, session_id: str) -> tuple[str, RecordFailure | ExpireSession | PassDeadline | PassAllotment]:
    """The command, with its derived id, that a passed deadline turns into. Raises ValueError where `due` is None."""
    time = due(state)
    match state:
        case Drawing() | Ended() if time:
            return _passed(session_id, time), PassAllotment()
        case Idle() if time and time < state.expires_at:
            return _passed(session_id, time), PassAllotment()
        case Thinking():
            failure = RecordFailure(request=state.request, attempt="", code="deadline", reason="The model did not answer in time.")
            return result_id(session_id, state.request), failure
        case Idle():
            return derived_id(session_id, "expire", state.expires_at.isoformat()), ExpireSession()
        case Acting() | Waiting():
            first = min(state.calls, key=lambda call: call.deadline)
            return derived_id(session_id, "passed", first.call, first.deadline.isoformat()), PassDeadline(call=first.call)
        case _:
            raise ValueError(f"{type(state).__name__} has no deadline")


def result_id(session_id: str, request: int) -> str:
    """One id for every outcome of a model call, so that only its first one is recorded (rule 11)."""
    return derived_id(session_id, "reply", request)


def _passed(session_id: str, time: datetime) -> str:
    return derived_id(session_id, "allotment", time.isoformat())


SAID = MessagePosted | ReplyRecorded | ToolCallRequested | ToolCallApproved | ToolCallFinished | ToolCallSettled


def is_message(body: Body | Refused | CommandsLost | RecordVoided) -> bool:
    """Whether the event holds something of the conversation, so that its place is kept (rule 8)."""
    told = isinstance(body, SessionStarted) and (body.instructions is not None or body.origin is not None or body.history != ())
    return told or isinstance(body, SAID)


def _start(state: State, body: StartSession, meta: CommandMeta) -> Decision:
    if not isinstance(state, Absent):
        return Refusal("exists", "A session with this id was started before.")
    if len(body.history) > MAX_MESSAGES - 2:  # room for a message and its reply
        return Refusal("full", f"A session holds at most {MAX_MESSAGES} messages: tell it less of what was said before.")
    started = SessionStarted(
        model=body.model,
        metadata=body.metadata,
        reply_seconds=body.reply_seconds,
        idle_seconds=body.idle_seconds,
        instructions=body.instructions,
        tools=body.tools,
        limits=body.limits,
        max_tokens=body.max_tokens,
        price=body.price,
        agent=body.agent,
        origin=body.origin,
        direct=body.call is not None,
        history=body.history,
        governed=body.governed,
        seal=body.seal,
    )
    draft = Draft(state, meta).add(started)
    if body.call:
        return _ask(draft, (body.call,), 0)
    return draft.events if body.input is None else _say(draft, MessagePosted(content=body.input))


def _post(state: State, body: PostMessage, meta: CommandMeta) -> Decision:
    match state:
        case Idle(talk):
            if talk.terms.seal and isinstance(body.input, str):
                return Refusal("unsealed", "The text of this session is sealed, and this is not: ask a gateway that seals (SOMA_SEAL).")
            if talk.messages > MAX_MESSAGES - 2:  # room for the reply too
                return Refusal("full", f"A session holds at most {MAX_MESSAGES} messages: start a new one.")
            return _say(Draft(state, meta), MessagePosted(content=body.input))
        case Thinking() | Acting() | Waiting() | Drawing():
            return _busy(state)
        case _:
            return gone(state)


def _say(draft: Draft, message: MessagePosted) -> Decision:
    """A message and the model's turn; refused where the budget does not allow for any answer."""
    events = draft.add(message).go_on()
    last = events[-1]
    return Refusal(last.code, last.reason) if isinstance(last, TurnStopped) else events


def _answered(state: State, body: RecordReply | RecordFailure, meta: CommandMeta) -> Decision:
    """The model call came to its end."""
    if not isinstance(state, Thinking) or state.request != body.request:
        return LATE
    return _reply(state, body, meta) if isinstance(body, RecordReply) else _failure(state, body)


def _reply(state: Thinking, body: RecordReply, meta: CommandMeta) -> Decision:
    reply = ReplyRecorded(
        request=body.request,
        attempt=body.attempt,
        content=body.content,
        finish_reason=body.finish_reason,
        usage=body.usage or _reserved(state),
    )
    draft = Draft(state, meta).add(reply)
    return _ask(draft, body.calls, body.request) if body.calls else draft.events


def _ask(draft: Draft, wished: tuple[AskedCall, ...], request: int) -> list[Any]:
    """All the calls of one reply: those that cannot be run are answered at once."""
    for index, wish in enumerate(wished):
        too_many = f"One reply may ask for at most {calling.MAX_CALLS} calls." if index >= calling.MAX_CALLS else None
        call, id = replace(wish, problem=wish.problem or too_many), calling.id_of(draft.meta.aggregate_id, request, index)
        draft.add(*calling.asked(talk_of(draft.state), calls(draft.state), call, id, draft.now))
    return draft.draw()


def _failure(state: Thinking, body: RecordFailure) -> Decision:
    usage = body.usage or (_reserved(state) if body.code in ("deadline", "too_large", "erased") else None)
    return [ReplyFailed(request=body.request, attempt=body.attempt, code=body.code, reason=body.reason, usage=usage)]


def _reserved(state: Thinking) -> Usage | None:
    """What is charged to a budget where nobody says what the call cost."""
    return talking.reserved(state.talk, state.max_tokens) if state.talk.terms.limits or state.talk.account else None


def _cancel(state: State, body: CancelSession) -> Decision:
    return gone(state) if isinstance(state, Absent | Ended) else [SessionCancelled(reason=body.reason)]


def _close(state: State) -> Decision:
    match state:
        case Idle():
            return [SessionClosed()]
        case Thinking() | Acting() | Waiting() | Drawing():
            return _busy(state)
        case _:
            return gone(state)


def _expire(state: State, meta: CommandMeta) -> Decision:
    if isinstance(state, Idle) and meta.time >= state.expires_at:
        return [SessionExpired()]
    return Refusal("not_due", "The session is not idle past its time.")


def _busy(state: Thinking | Acting | Waiting | Drawing) -> Refusal:
    match state:
        case Thinking():
            return Refusal("busy", "The model has not answered the last message yet: wait for its reply, or cancel.")
        case Acting():
            return Refusal("busy", "Tools are at work for the last message: wait for the reply, or cancel.")
        case Waiting():
            return Refusal("busy", "A tool call waits to be approved: approve or deny it, or cancel.")
        case Drawing():
            return Refusal("busy", "The tenant's budget has not answered the last message yet: wait for the reply, or cancel.")
