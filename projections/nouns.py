"""The nouns whose records become rows: whoever adds one adds it to NOUNS."""

from collections.abc import Sequence

from commands import allotment, amounts, decision, situation, talk
from commands import audit as auditing
from commands import budget as budgeting
from commands import call as calling
from commands import relation as relating
from projections import audit, budget, call, late, relation, rows, session, text, usage
from projections.noun import Folded, Logged, Noun, States, Summed
from projections.reading import Taken
from projections.tables import audited, budgets, calls, events, relations, sessions
from projections.tables import usage as used
from schemas.types import audit as audit_types
from schemas.types import budget as budget_types
from schemas.types import common
from schemas.types import relation as relation_types
from schemas.types import session as types


def _aggregate(taken: Taken, states: States) -> Sequence[str]:
    return (taken.id,) if taken.id else ()


def _calls(taken: Taken, states: States) -> Sequence[str]:
    return call.touched(states[sessions.name].get(taken.id), taken.event) if taken.id else ()


def _usage(taken: Taken, states: States) -> tuple[usage.Line, usage.Used] | None:
    if type(taken.event.body) not in usage.BILLED or taken.id is None:  # most records: nothing else is asked of them
        return None
    return usage.added(taken.event, states[sessions.name].get(taken.id), states[calls.name])


SESSION = Noun(
    name="session",
    commands="soma.session.commands",
    events=session.EVENTS,
    event=types.SessionEvent,
    sources=(text, rows, session, call, late, usage, situation, talk, calling, allotment, amounts, types, common),
    logged=Logged(events, rows.event_rows),
    folded=(
        Folded(sessions, _aggregate, session.summarize, rows.session_row, "summary", rows.summary),
        Folded(calls, _calls, call.evolve, rows.call_row, "entry", rows.call),
    ),
    summed=Summed(used, _usage, rows.usage_row, usage.Used._fields),
)
AUDIT = Noun(
    name="audit",
    commands=audit.COMMANDS,
    events=audit.EVENTS,
    event=audit_types.AuditEvent,
    sources=(text, audit, auditing, decision, audit_types, common),
    logged=Logged(audited, audit.audit_rows),
)
BUDGET = Noun(
    name="budget",
    commands="soma.budget.commands",
    events="soma.budget.events",
    event=budget_types.BudgetEvent,
    sources=(text, budget, budgeting, amounts, decision, budget_types, common),
    folded=(Folded(budgets, _aggregate, budget.evolve, budget.row, "entry", budget.read),),
)
RELATION = Noun(
    name="relation",
    commands=relation.COMMANDS,
    events="soma.relation.events",
    event=relation_types.RelationEvent,
    sources=(text, relation, relating, decision, relation_types, common),
    folded=(Folded(relations, relation.touched, relation.evolve, relation.row, "entry", relation.read),),
)
NOUNS: dict[str, Noun] = {noun.events: noun for noun in (SESSION, BUDGET, RELATION, AUDIT)}
"""By their events topic."""


def events_of(commands: str) -> str:
    """The topic that holds what became of the commands of a noun's topic."""
    return next(noun.events for noun in NOUNS.values() if noun.commands == commands)
