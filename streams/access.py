"""The key as the generic processor sees it. Nothing waits for anybody, and no clock changes it: who checks a key compares times."""

from commands import access
from schemas.types import access as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun, keeps_nothing, never_due, no_deadline, waits_for_nothing

ACCESS = Noun(
    name="access",
    commands="soma.access.commands",
    events="soma.access.events",
    snapshots="soma.access.snapshots",
    command=types.AccessCommand,
    event=types.AccessEvent,
    initial=access.initial,
    state=access.State,
    decide=access.decide,
    evolve=access.evolve,
    outstanding=waits_for_nothing,
    due=never_due,
    when_due=no_deadline,
    keeps_place=keeps_nothing,
    results=(types.NoteUse,),
    sources=(access, aggregate, types, common),
    reported=True,
)
