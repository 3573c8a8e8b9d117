"""The agent as the generic processor sees it. Nothing waits for anybody here, and no clock changes it."""

from commands import agent
from schemas.types import agent as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun, keeps_nothing, never_due, no_deadline, waits_for_nothing

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
    due=never_due,
    when_due=no_deadline,
    keeps_place=keeps_nothing,
    results=(),
    sources=(agent, aggregate, types, common),
)
