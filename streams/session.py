"""The session as the generic processor sees it."""

from commands import allotment, amounts, call, session, situation, talk
from schemas.types import common
from schemas.types import session as types
from streams import aggregate
from streams.noun import Noun

SESSION = Noun(
    name="session",
    commands="soma.session.commands",
    events="soma.session.events",
    snapshots="soma.session.snapshots",
    command=types.SessionCommand,
    event=types.SessionEvent,
    initial=situation.initial,
    state=situation.State,
    decide=session.decide,
    evolve=situation.evolve,
    outstanding=session.outstanding,
    due=session.due,
    when_due=session.when_due,
    keeps_place=session.is_message,
    results=(
        types.RecordReply,
        types.RecordFailure,
        types.ExpireSession,
        types.BeginCall,
        types.RecordResult,
        types.PassDeadline,
        types.RecordAllotment,
        types.PassAllotment,
    ),
    sources=(situation, talk, call, allotment, amounts, aggregate, types, common),
)
