"""Who has which relation to one object: a thing that is shared, a group with its members, a tenant with its admins.

An owner is no relation that is given: it follows from who started or registered the thing. What relations imply is for who asks
(ops/openfga/model.fga, projections/reach.py).
"""

import re
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands.decision import Refusal
from schemas.ids import named_id
from schemas.types.common import CommandMeta
from schemas.types.relation import Relate, Related, RelationCommand, RelationEvent, Unrelate, Unrelated

MAX_SUBJECTS = 1_000
"""So many relations an object may have: more people than that are a group."""
GIVEN: dict[str, dict[str, tuple[str, ...]]] = {
    **{
        kind: dict.fromkeys(("viewer", "editor", "approver"), ("user", "key", "group", "tenant"))
        for kind in ("session", "tool", "agent", "capsule")
    },
    "group": {"member": ("user", "key", "group", "tenant")},
    "tenant": {"member": ("user", "key", "group"), "admin": ("user", "key", "group"), "parent": ("tenant",)},
}
"""By the kind of the object: the relations that can be given, and to which kinds of subject."""
_NAME = re.compile(r"[^\s#*]{1,255}")

Body = Related | Unrelated


class Bond(Struct, frozen=True, order=True):
    """One subject's relation to the object."""

    relation: str
    subject: str


class Absent(Struct, frozen=True, tag=True):
    """Nobody ever had a relation to it."""


class Bound(Struct, frozen=True, tag=True):
    """These have one, in the order in which it was given; perhaps nobody any more."""

    object: str
    bonds: tuple[Bond, ...]


State = Absent | Bound
initial: State = Absent()
Decision = list[Body] | Refusal


def decide(state: State, command: RelationCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    body, meta = command.body, command.meta
    if refusal := _impossible(body, meta):
        return refusal
    held = Bond(body.relation, body.subject) in _bonds(state)
    match body:
        case Relate():
            return _relate(state, body, held=held)
        case Unrelate():
            return _unrelate(state, body, held=held)
        case _:
            assert_never(body)


def evolve(state: State, event: RelationEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    match event.body, state:
        case Related() as body, Absent():
            return Bound(body.object, (Bond(body.relation, body.subject),))
        case Related() as body, Bound():
            return replace(state, bonds=(*state.bonds, Bond(body.relation, body.subject)))
        case Unrelated() as body, Bound():
            return replace(state, bonds=tuple(bond for bond in state.bonds if bond != Bond(body.relation, body.subject)))
    raise ValueError(f"{type(event.body).__name__} cannot follow {type(state).__name__}: {event.meta.aggregate_id} v{event.meta.version}")


def _bonds(state: State) -> tuple[Bond, ...]:
    return state.bonds if isinstance(state, Bound) else ()


def _relate(state: State, body: Relate, *, held: bool) -> Decision:
    if held:
        return Refusal("unchanged", "It has this relation already.")
    if len(_bonds(state)) >= MAX_SUBJECTS:
        return Refusal("full", f"At most {MAX_SUBJECTS} can have a relation to it: make a group of them.")
    return [Related(object=body.object, relation=body.relation, subject=body.subject)]


def _unrelate(state: State, body: Unrelate, *, held: bool) -> Decision:
    if isinstance(state, Absent):
        return Refusal("not_found", "Nobody has a relation to it.")
    if not held:
        return Refusal("unchanged", "It has no such relation.")
    return [Unrelated(object=body.object, relation=body.relation, subject=body.subject)]


def _impossible(body: Relate | Unrelate, meta: CommandMeta) -> Refusal | None:
    """Why there can be no such relation, if so."""
    (kind, _, name), (to, _, who) = body.object.partition(":"), body.subject.partition(":")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(who)):
        return Refusal("misnamed", "An object and a subject are a kind, a colon, and a name of at most 255 signs.")
    if to not in GIVEN.get(kind, {}).get(body.relation, ()):
        return Refusal("no_such_relation", f"A {to} cannot be {body.relation} of a {kind}.")
    if body.object == body.subject:
        return Refusal("no_such_relation", "Nothing has a relation to itself.")
    if named_id(meta.tenant, "relation", body.object) != meta.aggregate_id:
        return Refusal("misnamed", f"{body.object} is not what this is about.")
    return None
