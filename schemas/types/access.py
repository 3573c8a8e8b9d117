"""Generated from schemas/avro/access/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class IssueKey(Struct, frozen=True, kw_only=True, tag=True):
    """Make a key."""

    key: str
    name: str
    hash: bytes
    pepper: str
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None


class RotateKey(Struct, frozen=True, kw_only=True, tag=True):
    """Give the key a new secret."""

    hash: bytes
    pepper: str
    overlap_seconds: int


class RevokeKey(Struct, frozen=True, kw_only=True, tag=True):
    """The key is worth nothing from now on."""

    reason: str | None = None


class NoteUse(Struct, frozen=True, kw_only=True, tag=True):
    """The key was shown, and was good."""

    at: datetime


class AccessCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.access.commands."""

    meta: CommandMeta
    body: IssueKey | RotateKey | RevokeKey | NoteUse


class KeyIssued(Struct, frozen=True, kw_only=True, tag=True):
    """There is a key. Its tenant is that of the record, its issuer the actor."""

    key: str
    name: str
    hash: bytes
    pepper: str
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None


class KeyRotated(Struct, frozen=True, kw_only=True, tag=True):
    """The key has a new secret."""

    secret: int
    hash: bytes
    pepper: str
    former_until: datetime


class KeyRevoked(Struct, frozen=True, kw_only=True, tag=True):
    """The key is worth nothing from now on."""

    reason: str | None = None


class KeyUsed(Struct, frozen=True, kw_only=True, tag=True):
    """The key was shown, and was good; noted at most once an hour."""

    at: datetime


class AccessEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.access.events."""

    meta: EventMeta
    body: KeyIssued | KeyRotated | KeyRevoked | KeyUsed | Refused | CommandsLost | RecordVoided
