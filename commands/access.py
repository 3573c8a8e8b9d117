"""The key: what it lets its bearer do, and the secrets that prove it. Of a secret only a keyed hash comes here.

Expiry is no event: whoever checks a key compares times. So it holds where no worker runs, and to the moment.
"""

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct
from msgspec.structs import asdict, replace

from commands.decision import Refusal
from schemas.ids import named_id
from schemas.types.access import (
    AccessCommand,
    AccessEvent,
    IssueKey,
    KeyIssued,
    KeyRevoked,
    KeyRotated,
    KeyUsed,
    NoteUse,
    RevokeKey,
    RotateKey,
)
from schemas.types.common import CommandMeta

MAX_SECRETS = 5
"""So many are valid at once: the newest, and those before it whose overlap is not over."""
OVERLAP_SECONDS_AT_MOST = 30 * 86400
NOTED = timedelta(hours=1)
"""Uses within this time of the last one that was noted are not."""

Body = KeyIssued | KeyRotated | KeyRevoked | KeyUsed


class Secret(Struct, frozen=True):
    """The `number`-th secret's keyed hash, and which pepper is the hash's key. From `until` on it is worth nothing, whatever the key is."""

    number: int
    hash: bytes
    pepper: str
    until: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Whether its own time is not over."""
        return self.until is None or now < self.until


class Absent(Struct, frozen=True, tag=True):
    """Never issued."""


class Issued(Struct, frozen=True, tag=True):
    """Whoever shows one of its secrets may act within its scopes, until it expires. The newest secret comes first."""

    key: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    secrets: tuple[Secret, ...]
    used_at: datetime | None = None

    @property
    def rotation(self) -> int:
        """How many secrets it has had."""
        return self.secrets[0].number

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class Revoked(Struct, frozen=True, tag=True):
    """Worth nothing, for good. Its hashes are forgotten here."""

    key: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    rotation: int
    used_at: datetime | None
    reason: str | None


State = Absent | Issued | Revoked
initial: State = Absent()
Decision = list[Body] | Refusal


def decide(state: State, command: AccessCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    body, meta = command.body, command.meta
    if isinstance(body, IssueKey):
        return _issue(state, body, meta)
    if isinstance(state, Absent):
        return Refusal("not_found", "There is no key with this id.")
    if isinstance(state, Revoked):
        return Refusal("revoked" if isinstance(body, RotateKey) else "unchanged", "It is revoked: issue another key.")
    match body:
        case RotateKey():
            return _rotate(state, body, meta)
        case RevokeKey():
            return [KeyRevoked(reason=body.reason)]
        case NoteUse():
            return _note(state, body)
        case _:
            assert_never(body)


def evolve(state: State, event: AccessEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body, state:
        case KeyIssued() as body, Absent():
            return Issued(body.key, body.name, body.scopes, body.expires_at, (Secret(1, body.hash, body.pepper),))
        case KeyRotated() as body, Issued():
            secret = Secret(body.secret, body.hash, body.pepper)
            return replace(state, secrets=(secret, *_ending(state, body.former_until, event.meta.time)))
        case KeyRevoked() as body, Issued():
            return Revoked(state.key, state.name, state.scopes, state.expires_at, state.rotation, state.used_at, body.reason)
        case KeyUsed() as body, Issued():
            return replace(state, used_at=body.at)
    raise ValueError(f"{type(event.body).__name__} cannot follow {type(state).__name__}: {event.meta.aggregate_id} v{event.meta.version}")


def _issue(state: State, body: IssueKey, meta: CommandMeta) -> Decision:
    if not isinstance(state, Absent):
        return Refusal("exists", "There is a key with this id.")
    if named_id(meta.tenant, "access", body.key) != meta.aggregate_id:
        return Refusal("misnamed", f"{body.key} is not the id of this key.")
    if body.expires_at is not None and body.expires_at <= meta.time:
        return Refusal("expired", "The time at which it would expire is over.")
    return [KeyIssued(**asdict(body))]


def _rotate(state: Issued, body: RotateKey, meta: CommandMeta) -> Decision:
    if state.expired(meta.time):
        return Refusal("expired", "It has expired: issue another key.")
    if not 0 <= body.overlap_seconds <= OVERLAP_SECONDS_AT_MOST:
        return Refusal("overlap", f"Secrets overlap for at most {OVERLAP_SECONDS_AT_MOST} s.")
    until = meta.time + timedelta(seconds=body.overlap_seconds)
    if len(_ending(state, until, meta.time)) >= MAX_SECRETS:
        return Refusal("full", f"{MAX_SECRETS} secrets are valid: wait for one to end, or rotate without overlap.")
    return [KeyRotated(secret=state.rotation + 1, hash=body.hash, pepper=body.pepper, former_until=until)]


def _ending(state: Issued, until: datetime, now: datetime) -> tuple[Secret, ...]:
    """The secrets as they are once none of them is valid for longer than `until`; those whose time is over are left out."""
    ending = (replace(secret, until=min(secret.until or until, until)) for secret in state.secrets)
    return tuple(secret for secret in ending if secret.valid(now))


def _note(state: Issued, body: NoteUse) -> Decision:
    if state.used_at is not None and body.at < state.used_at + NOTED:
        return Refusal("unchanged", "A use within the hour before is noted.")
    return [KeyUsed(at=body.at)]
