"""The nouns whose records become rows: whoever adds one adds it to NOUNS."""

from collections.abc import Sequence

from commands import allotment, amounts, situation, talk
from commands import budget as budgeting
from commands import call as calling
from projections import budget, call, rows, session, usage
from projections.noun import Folded, Logged, Noun, States, Summed
from projections.reading import Taken
from projections.tables import budgets, calls, events, sessions
from projections.tables import usage as used
from schemas.types import budget as budget_types
from schemas.types import common
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
    sources=(rows, session, call, usage, situation, talk, calling, allotment, amounts, types, common),
    logged=Logged(events, rows.event_row),
    folded=(
        Folded(sessions, _aggregate, session.summarize, rows.session_row, "summary", rows.summary),
        Folded(calls, _calls, call.evolve, rows.call_row, "entry", rows.call),
    ),
    summed=Summed(used, _usage, rows.usage_row, usage.Used._fields),
)
BUDGET = Noun(
    name="budget",
    commands="soma.budget.commands",
    events="soma.budget.events",
    event=budget_types.BudgetEvent,
    sources=(budget, budgeting, amounts, budget_types, common),
    folded=(Folded(budgets, _aggregate, budget.evolve, budget.row, "entry", budget.read),),
)
NOUNS: dict[str, Noun] = {noun.events: noun for noun in (SESSION, BUDGET)}
"""By their events topic."""


def events_of(commands: str) -> str:
    """The topic that holds what became of the commands of a noun's topic."""
    return next(noun.events for noun in NOUNS.values() if noun.commands == commands)
