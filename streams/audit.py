"""The audit as the generic processor sees it. Nothing waits for anybody here, and no clock changes it."""

from commands import audit
from schemas.types import audit as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun, keeps_nothing, never_due, no_deadline, waits_for_nothing

AUDIT = Noun(
    name="audit",
    commands="soma.audit.commands",
    events="soma.audit",
    snapshots="soma.audit.snapshots",
    command=types.AuditCommand,
    event=types.AuditEvent,
    initial=audit.initial,
    state=audit.State,
    decide=audit.decide,
    evolve=audit.evolve,
    outstanding=waits_for_nothing,
    due=never_due,
    when_due=no_deadline,
    keeps_place=keeps_nothing,
    results=(types.NoteDecisions,),
    sources=(audit, aggregate, types, common),
    reported=True,
)
