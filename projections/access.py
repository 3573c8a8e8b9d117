"""API keys as callers and the gate see them: a projection that each gateway keeps in memory, for they are few (ops/follow.py)."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from commands import access
from commands.access import NOTED, Issued, Revoked, Secret
from ops.follow import Catalogue, Subject
from projections.text import rfc3339
from schemas.types.access import AccessEvent
from schemas.types.common import Position

__all__ = ["ACCESS", "NOTED", "Access", "Key", "Secret", "document"]


class Key(Struct, frozen=True):
    """A key that was issued. `position` is the last command that changed it."""

    state: Issued | Revoked
    tenant: str
    issued_by: str
    position: Position
    created_at: datetime
    updated_at: datetime

    @property
    def id(self) -> str:
        """It begins each of the key's secrets."""
        return self.state.key

    def secrets(self, now: datetime) -> tuple[Secret, ...]:
        """Those by which it can be shown now, the newest one first: none once it is revoked, or has expired."""
        if isinstance(self.state, Revoked) or self.state.expired(now):
            return ()
        return tuple(secret for secret in self.state.secrets if secret.valid(now))

    def status(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if isinstance(self.state, Revoked):
            return "revoked"
        return "expired" if self.state.expired(now) else "active"


def know(known: Key | None, event: AccessEvent) -> Key:
    """What is known after a versioned event; before the first one it is None. Raises ValueError as `access.evolve` does."""
    meta = event.meta
    state = access.evolve(known.state if known else access.initial, event)
    assert not isinstance(state, access.Absent), "nothing makes a key absent again"
    if known is None:
        return Key(state, meta.tenant, meta.actor, meta.command, meta.time, meta.time)
    return replace(known, state=state, position=meta.command, updated_at=meta.time)


def document(key: Key, now: datetime) -> dict[str, Any]:
    """A key as it stands now, ready for JSON. There is nothing in it by which the key could be shown."""
    state, (_, *former) = key.state, key.secrets(now) or (None,)
    ends = [secret.until for secret in former if secret and secret.until]
    return {
        "id": key.id,
        "name": state.name,
        "status": key.status(now),
        "scopes": list(state.scopes),
        "expires_at": _time(state.expires_at),
        "rotation": state.rotation,
        "overlap_until": _time(max(ends, default=None)),
        "used_at": _time(state.used_at),
        "issued_by": key.issued_by,
        "position": f"{key.position.partition}:{key.position.offset}",
        "created_at": rfc3339(key.created_at),
        "updated_at": rfc3339(key.updated_at),
    }


def _time(time: datetime | None) -> str | None:
    return rfc3339(time) if time else None


ACCESS: Subject[Key] = Subject("access", "soma.access.events", AccessEvent, know)
Access = Catalogue[Key]
