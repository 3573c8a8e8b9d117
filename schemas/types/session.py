"""Generated from schemas/avro/session/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused, Sealed, Usage



class CancelSession(Struct, frozen=True, kw_only=True, tag=True):
    """Stop what runs and end the session."""

    reason: str | None = None


class CloseSession(Struct, frozen=True, kw_only=True, tag=True):
    """End an idle session."""


class ExpireSession(Struct, frozen=True, kw_only=True, tag=True):
    """End a session that lay idle past its time."""


class MessagePosted(Struct, frozen=True, kw_only=True, tag=True):
    """A message of the caller."""

    content: str | Sealed


class OutputDelta(Struct, frozen=True, kw_only=True):
    """Value of soma.session.output: a piece of a reply while it is written. Superseded by ReplyRecorded."""

    session_id: str
    request: int
    attempt: str
    index: int
    text: str | Sealed


class PostMessage(Struct, frozen=True, kw_only=True, tag=True):
    """Say something to the model."""

    input: str | Sealed


class RecordFailure(Struct, frozen=True, kw_only=True, tag=True):
    """A model call failed for good."""

    request: int
    attempt: str
    code: str
    reason: str
    usage: Usage | None = None


class RecordReply(Struct, frozen=True, kw_only=True, tag=True):
    """A model call came to its end."""

    request: int
    attempt: str
    content: str | Sealed
    finish_reason: str
    usage: Usage | None = None


class ReplyFailed(Struct, frozen=True, kw_only=True, tag=True):
    """The model did not answer; the session goes on."""

    request: int
    attempt: str
    code: str
    reason: str
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


class SessionCancelled(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by a caller, whatever ran."""

    reason: str | None = None


class SessionClosed(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by a caller while idle."""


class StartSession(Struct, frozen=True, kw_only=True, tag=True):
    """Open a session, with a first message or without."""

    model: str
    input: str | Sealed | None = None
    metadata: dict[str, str]
    reply_seconds: int
    idle_seconds: int


class SessionCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.session.commands."""

    meta: CommandMeta
    body: StartSession | PostMessage | RecordReply | RecordFailure | CancelSession | CloseSession | ExpireSession


class SessionStarted(Struct, frozen=True, kw_only=True, tag=True):
    """A session was opened."""

    model: str
    metadata: dict[str, str]
    reply_seconds: int
    idle_seconds: int


class SessionExpired(Struct, frozen=True, kw_only=True, tag=True):
    """Ended by lying idle."""


class SessionEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.session.events."""

    meta: EventMeta
    body: SessionStarted | MessagePosted | ReplyRequested | ReplyRecorded | ReplyFailed | SessionCancelled | SessionClosed | SessionExpired | Refused | CommandsLost | RecordVoided
