"""A relation as the generic processor sees it. Nothing waits for anybody here, and no clock changes it."""

from commands import relation
from schemas.types import common
from schemas.types import relation as types
from streams import aggregate
from streams.noun import Noun, keeps_nothing, never_due, no_deadline, waits_for_nothing

RELATION = Noun(
    name="relation",
    commands="soma.relation.commands",
    events="soma.relation.events",
    snapshots="soma.relation.snapshots",
    command=types.RelationCommand,
    event=types.RelationEvent,
    initial=relation.initial,
    state=relation.State,
    decide=relation.decide,
    evolve=relation.evolve,
    outstanding=waits_for_nothing,
    due=never_due,
    when_due=no_deadline,
    keeps_place=keeps_nothing,
    results=(),
    sources=(relation, aggregate, types, common),
)
