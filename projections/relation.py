"""Relations: what each object's are, which gateways follow in memory, and the rows by which the read model answers who may do what."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from commands import relation
from commands.relation import Bond, Bound
from ops.follow import Catalogue, Subject
from projections.noun import Row, States
from projections.reading import Taken
from projections.text import storable, subject
from schemas.ids import derived_id
from schemas.types.common import Position
from schemas.types.relation import Related, RelationEvent, Unrelated

__all__ = ["COMMANDS", "RELATIONS", "Bond", "Known", "Relation", "Relations", "document", "evolve", "subject"]

COMMANDS = "soma.relation.commands"


class Known(Struct, frozen=True):
    """The relations to one object. `position` is the last command that changed them, and `last` what it led to."""

    state: Bound
    position: Position
    tenant: str
    last: Related | Unrelated


class Relation(Struct, frozen=True):
    """One subject's relation to one object. `held`: it was not taken back."""

    tenant: str
    partition: int
    object: str
    relation: str
    subject: str
    held: bool

    @property
    def id(self) -> str:
        """The row's."""
        return derived_id(self.tenant, self.object, self.relation, self.subject)


def know(known: Known | None, event: RelationEvent) -> Known:
    """What is known after a versioned event; before the first one it is None. Raises ValueError as `relation.evolve` does."""
    state = relation.evolve(known.state if known else relation.initial, event)
    assert isinstance(state, Bound) and isinstance(event.body, Related | Unrelated), "what is folded gives or takes back"
    return Known(state, event.meta.command, event.meta.tenant, event.body)


def document(object: str, owner: str | None, known: Known | None) -> dict[str, Any]:
    """Who has which relation to it, ready for JSON."""
    given = [{"with": bond.subject, "as": bond.relation} for bond in sorted(known.state.bonds)] if known else []
    return {
        "object": object,
        "relations": ([{"with": owner, "as": "owner"}] if owner else []) + given,
        "position": f"{known.position.partition}:{known.position.offset}" if known else None,
    }


# The rows


def touched(taken: Taken, states: States) -> tuple[str, ...]:
    """The one row that an event changes."""
    found = evolve(None, taken.event) if taken.id else None
    return (found.id,) if found else ()


def evolve(known: Relation | None, event: RelationEvent) -> Relation | None:
    """The relation that an event gives or takes back. The chain counts the versions; here each is one of many rows of its object."""
    body = event.body
    if event.meta.version is None or not isinstance(body, Related | Unrelated):
        return known
    held = isinstance(body, Related)
    return Relation(event.meta.tenant, event.meta.command.partition, body.object, body.relation, body.subject, held)


def row(known: Relation) -> Row:
    """The row of `relations`."""
    reached = f"{known.subject}#admin" if known.relation == "parent" else known.subject
    return {
        "id": UUID(known.id),
        "tenant": storable(known.tenant),
        "partition": known.partition,
        "object": storable(known.object),
        "relation": storable(known.relation),
        "subject": storable(reached),
        "held": known.held,
        "entry": msgspec.msgpack.encode(known),
    }


def read(stored: bytes) -> Relation:
    """What the column `entry` says."""
    return _decoder.decode(stored)


_decoder = msgspec.msgpack.Decoder(Relation)
RELATIONS: Subject[Known] = Subject("relation", "soma.relation.events", RelationEvent, know)
Relations = Catalogue[Known]
