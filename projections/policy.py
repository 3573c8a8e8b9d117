"""The policies as the gate and callers see them: a projection that each gateway keeps in memory (ops/follow.py)."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands import policy
from commands.policy import MAX_BYTES, MAX_MODULES, NAME, fingerprint
from ops.follow import Catalogue, Subject
from projections.text import rfc3339
from schemas.types.common import Position
from schemas.types.policy import Bundle, PolicyActivated, PolicyEvent, PolicyPublished

__all__ = [
    "MAX_BYTES",
    "MAX_MODULES",
    "NAME",
    "POLICIES",
    "SHIPPED",
    "Activation",
    "Edition",
    "Policies",
    "Shelf",
    "document",
    "fingerprint",
    "overview",
]

SHIPPED = "shipped"
"""What callers call the policies that come with the platform."""
ACTIVATIONS = 100
"""So many are shown, the newest ones; the record has all."""


class Edition(Struct, frozen=True):
    """A version that was published."""

    number: int
    digest: str
    bundle: Bundle
    note: str | None
    by: str
    at: datetime

    @property
    def name(self) -> str:
        """As decisions name it."""
        return f"{self.number}@{self.digest}"


class Activation(Struct, frozen=True):
    """Somebody let a version decide; None: the shipped policies."""

    version: int | None
    by: str
    at: datetime
    reason: str | None


class Shelf(Struct, frozen=True):
    """All versions, from 1 on, and which of them decides. `position` is the last command that changed it."""

    state: policy.State
    editions: tuple[Edition, ...]
    activations: tuple[Activation, ...]
    position: Position

    @property
    def active(self) -> Edition | None:
        """The version that decides; None for the shipped policies."""
        number = policy.active(self.state)
        return None if number is None else self.editions[number - 1]

    def at(self, number: int) -> Edition | None:
        """The version of this number, if there is one."""
        return self.editions[number - 1] if 1 <= number <= len(self.editions) else None


def know(known: Shelf | None, event: PolicyEvent) -> Shelf:
    """What is known after a versioned event; before the first one it is None. Raises ValueError as `policy.evolve` does."""
    meta, body = event.meta, event.body
    shelf = known or Shelf(policy.initial, (), (), meta.command)
    shelf = replace(shelf, state=policy.evolve(shelf.state, event), position=meta.command)
    match body:
        case PolicyPublished():
            edition = Edition(body.version, body.digest, body.bundle, body.note, meta.actor, meta.time)
            return replace(shelf, editions=(*shelf.editions, edition))
        case PolicyActivated():
            activation = Activation(body.version, meta.actor, meta.time, body.reason)
            return replace(shelf, activations=(*shelf.activations, activation)[-ACTIVATIONS:])
    return shelf


def overview(shelf: Shelf | None) -> dict[str, Any]:
    """All versions without what they say, the newest first, and who let which decide; ready for JSON."""
    if shelf is None:
        return {"active": SHIPPED, "versions": [_shipped(active=True)], "activations": []}
    listed = [_standing(edition, shelf) for edition in reversed(shelf.editions)]
    return {
        "active": str(shelf.active.number) if shelf.active else SHIPPED,
        "versions": [*listed, _shipped(active=shelf.active is None)],
        "activations": [_activation(each) for each in reversed(shelf.activations)],
    }


def document(edition: Edition, shelf: Shelf) -> dict[str, Any]:
    """A version with what it says, ready for JSON."""
    modules = {module.name: module.text for module in edition.bundle.modules}
    return _standing(edition, shelf) | {"modules": modules, "data": msgspec.json.decode(edition.bundle.data)}


def _standing(edition: Edition, shelf: Shelf) -> dict[str, Any]:
    return {
        "version": str(edition.number),
        "digest": edition.digest,
        "active": edition == shelf.active,
        "note": edition.note,
        "published_by": edition.by,
        "published_at": rfc3339(edition.at),
    }


def _shipped(*, active: bool) -> dict[str, Any]:
    return {"version": SHIPPED, "digest": None, "active": active, "note": None, "published_by": None, "published_at": None}


def _activation(each: Activation) -> dict[str, Any]:
    return {"version": SHIPPED if each.version is None else str(each.version), "by": each.by, "at": rfc3339(each.at), "reason": each.reason}


POLICIES: Subject[Shelf] = Subject("policy", "soma.policy.events", PolicyEvent, know)
Policies = Catalogue[Shelf]
