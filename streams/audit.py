"""The audit as the generic processor sees it. Nothing waits for anybody here, and no clock changes it."""

from datetime import datetime
from typing import Any, Never

from commands import audit
from schemas.types import audit as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun, keeps_nothing, waits_for_nothing


def _never(_: Any) -> datetime | None:
    """An audit has no deadline."""


def _no_command(state: Any, id: str) -> Never:
    raise ValueError(f"{type(state).__name__} has no deadline: {id}")


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
    due=_never,
    when_due=_no_command,
    keeps_place=keeps_nothing,
    results=(types.NoteDecisions,),
    sources=(audit, aggregate, types, common),
    reported=True,
)
