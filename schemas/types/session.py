"""Generated from schemas/avro/session/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import Amounts, CommandMeta, CommandsLost, Digest, EventMeta, RecordVoided, Refused, Sealed, Usage



class AllotmentAsked(Struct, frozen=True, kw_only=True, tag=True):
    """The session draws from its tenant's budget; nothing of it begins before the answer."""

    draw: int
    used: Amounts
    need: Amounts
    wish: Amounts
    asked: datetime
    deadline: datetime | None = None


class AllotmentReceived(Struct, frozen=True, kw_only=True, tag=True):
    """A draw was answered."""

    draw: int
    granted: Amounts | None = None
    code: str = ''
    reason: str = ''
    approval: bool = False


class ApproveCall(Struct, frozen=True, kw_only=True, tag=True):
    """A person lets a call go on."""

    call: str
    digest: Digest
    note: str | Sealed | None = None
    arguments: str | Sealed | None = None
    arguments_digest: Digest | None = None


class AskedCall(Struct, frozen=True, kw_only=True):
    """A tool call that a model asks for, checked against the tool's schema."""

    model_id: str
    tool: str
    arguments: str | Sealed
    digest: Digest
    needs_approval: bool = False
    problem: str | Sealed | None = None


class BeginCall(Struct, frozen=True, kw_only=True, tag=True):
    """An executor is about to run a call, and asks for the right to."""

    call: str
    attempt: int
    executor: str


class CancelSession(Struct, frozen=True, kw_only=True, tag=True):
    """Stop what runs and end the session."""

    reason: str | Sealed | None = None


class CloseSession(Struct, frozen=True, kw_only=True, tag=True):
    """End an idle session."""


class DenyCall(Struct, frozen=True, kw_only=True, tag=True):
    """A person refuses a call."""

    call: str
    note: str | Sealed | None = None


class ExpireSession(Struct, frozen=True, kw_only=True, tag=True):
    """End a session that lay idle past its time."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a session may use at most; null: no limit."""

    tokens: int | None = None
    cost_micros: int | None = None
    calls: int | None = None
    turns: int | None = None
    seconds: int | None = None


class MessagePosted(Struct, frozen=True, kw_only=True, tag=True):
    """A message of the caller."""

    content: str | Sealed


class Origin(Struct, frozen=True, kw_only=True):
    """The session that this one was forked from."""

    session_id: str
    version: int
    places: tuple[int, ...]
    tokens: int


class OutputDelta(Struct, frozen=True, kw_only=True):
    """Value of soma.session.output: a piece of a reply while it is written. Superseded by ReplyRecorded."""

    session_id: str
    request: int
    attempt: str
    index: int
    text: str | Sealed


class PassAllotment(Struct, frozen=True, kw_only=True, tag=True):
    """The time is over in which a draw had to be answered, or an allotment may lie unused."""


class PassDeadline(Struct, frozen=True, kw_only=True, tag=True):
    """The time is over in which something had to become of a call."""

    call: str


class PostMessage(Struct, frozen=True, kw_only=True, tag=True):
    """Say something to the model."""

    input: str | Sealed


class Price(Struct, frozen=True, kw_only=True):
    """What a model costs, in millionths of the currency for a million tokens."""

    input_micros: int
    output_micros: int


class RecordAllotment(Struct, frozen=True, kw_only=True, tag=True):
    """The tenant's budget answered a draw of the session."""

    draw: int
    granted: Amounts | None = None
    code: str = ''
    reason: str = ''


class RecordFailure(Struct, frozen=True, kw_only=True, tag=True):
    """A model call failed for good."""

    request: int
    attempt: str
    code: str
    reason: str | Sealed
    usage: Usage | None = None


class RecordReply(Struct, frozen=True, kw_only=True, tag=True):
    """A model call came to its end."""

    request: int
    attempt: str
    content: str | Sealed
    finish_reason: str
    usage: Usage | None = None
    calls: tuple[AskedCall, ...] = ()


class RecordResult(Struct, frozen=True, kw_only=True, tag=True):
    """An attempt of a call came to its end."""

    call: str
    attempt: int
    outcome: str
    content: str | Sealed
    digest: Digest
    bytes: int
    artifact: str | None = None
    retry: bool = False
    usage: Usage | None = None


class ReplyFailed(Struct, frozen=True, kw_only=True, tag=True):
    """The model did not answer; the session goes on."""

    request: int
    attempt: str
    code: str
    reason: str | Sealed
    usage: Usage | None = None


class ReplyRecorded(Struct, frozen=True, kw_only=True, tag=True):
    """The model answered."""

    request: int
    attempt: str
    content: str | Sealed
    finish_reason: str
    usage: Usage | None = None


class ReplyRequested(Struct, frozen=True, kw_only=True, tag=True):
    """The model's turn: a model call is outstanding from here on."""

    model: str
    deadline: datetime
    max_tokens: int | None = None


class Said(Struct, frozen=True, kw_only=True):
    """A message from before the session, as its caller tells it."""

    role: str
    content: str | Sealed


class SessionCancelled(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by a caller, whatever ran."""

    reason: str | Sealed | None = None


class SessionClosed(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by a caller while idle."""


class Tool(Struct, frozen=True, kw_only=True):
    """A tool as a session was given it: its version stays for the session's life."""

    name: str
    version: int
    repeat_safe: bool
    timeout_seconds: int
    attempts: int
    cost_micros: int
    approval: str
    tokens: int


class StartSession(Struct, frozen=True, kw_only=True, tag=True):
    """Open a session, with a first message or without."""

    model: str
    input: str | Sealed | None = None
    metadata: dict[str, str]
    reply_seconds: int
    idle_seconds: int
    instructions: str | Sealed | None = None
    tools: tuple[Tool, ...] = ()
    limits: Limits | None = None
    max_tokens: int | None = None
    price: Price | None = None
    agent: str | None = None
    origin: Origin | None = None
    call: AskedCall | None = None
    history: tuple[Said, ...] = ()
    governed: bool = False
    seal: str | None = None


class SettleCall(Struct, frozen=True, kw_only=True, tag=True):
    """A person, or the tool's own status, says how a call ended whose outcome is unknown."""

    call: str
    outcome: str
    content: str | Sealed
    digest: Digest
    note: str | Sealed | None = None


class SessionCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.session.commands."""

    meta: CommandMeta
    body: StartSession | PostMessage | RecordReply | RecordFailure | CancelSession | CloseSession | ExpireSession | BeginCall | RecordResult | ApproveCall | DenyCall | SettleCall | PassDeadline | RecordAllotment | PassAllotment


class SessionStarted(Struct, frozen=True, kw_only=True, tag=True):
    """A session was opened."""

    model: str
    metadata: dict[str, str]
    reply_seconds: int
    idle_seconds: int
    instructions: str | Sealed | None = None
    tools: tuple[Tool, ...] = ()
    limits: Limits | None = None
    max_tokens: int | None = None
    price: Price | None = None
    agent: str | None = None
    origin: Origin | None = None
    direct: bool = False
    history: tuple[Said, ...] = ()
    governed: bool = False
    seal: str | None = None


class SessionExpired(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by lying idle."""


class ToolCallRequested(Struct, frozen=True, kw_only=True, tag=True):
    """The model asked for a tool."""

    call: str
    model_id: str
    tool: str
    version: int
    arguments: str | Sealed
    digest: Digest
    approval: bool = False
    deadline: datetime


class ToolCallApproved(Struct, frozen=True, kw_only=True, tag=True):
    """A person let the call go on."""

    call: str
    note: str | Sealed | None = None
    arguments: str | Sealed | None = None
    digest: Digest
    deadline: datetime


class ToolCallStarted(Struct, frozen=True, kw_only=True, tag=True):
    """An attempt of the call began: from here on it may have had its effect."""

    call: str
    attempt: int
    executor: str
    deadline: datetime


class ToolCallFinished(Struct, frozen=True, kw_only=True, tag=True):
    """The call came to its end."""

    call: str
    attempt: int
    outcome: str
    content: str | Sealed
    digest: Digest
    bytes: int
    artifact: str | None = None
    note: str | Sealed | None = None
    usage: Usage | None = None


class ToolCallSettled(Struct, frozen=True, kw_only=True, tag=True):
    """A call whose outcome was unknown is known now."""

    call: str
    outcome: str
    content: str | Sealed
    digest: Digest
    bytes: int | None = None
    artifact: str | None = None
    note: str | Sealed | None = None
    usage: Usage | None = None


class TurnStopped(Struct, frozen=True, kw_only=True, tag=True):
    """The turn ended before the model was done."""

    code: str
    reason: str


class ToolCallReturned(Struct, frozen=True, kw_only=True, tag=True):
    """An attempt ended without a result that counts, and the call waits for another."""

    call: str
    attempt: int
    reason: str
    deadline: datetime
    usage: Usage | None = None


class SessionEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.session.events."""

    meta: EventMeta
    body: SessionStarted | MessagePosted | ReplyRequested | ReplyRecorded | ReplyFailed | SessionCancelled | SessionClosed | SessionExpired | Refused | CommandsLost | RecordVoided | ToolCallRequested | ToolCallApproved | ToolCallStarted | ToolCallFinished | ToolCallSettled | TurnStopped | ToolCallReturned | AllotmentAsked | AllotmentReceived
