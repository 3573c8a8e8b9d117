"""The agent as the generic processor sees it."""

from commands import agent
from schemas.types import agent as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun, keeps_nothing, waits_for_nothing

AGENT = Noun(
    name="agent",
    commands="soma.agent.commands",
    events="soma.agent.events",
    snapshots="soma.agent.snapshots",
    command=types.AgentCommand,
    event=types.AgentEvent,
    initial=agent.initial,
    state=agent.State,
    decide=agent.decide,
    evolve=agent.evolve,
    outstanding=waits_for_nothing,
    due=agent.due,
    when_due=agent.when_due,
    keeps_place=keeps_nothing,
    results=(),
    sources=(agent, aggregate, types, common),
)
