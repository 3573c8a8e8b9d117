"""The policies as the generic processor sees them. Nothing waits for anybody here, and no clock changes them."""

from commands import policy
from schemas.types import common
from schemas.types import policy as types
from streams import aggregate
from streams.noun import Noun, keeps_nothing, never_due, no_deadline, waits_for_nothing

POLICY = Noun(
    name="policy",
    commands="soma.policy.commands",
    events="soma.policy.events",
    snapshots="soma.policy.snapshots",
    command=types.PolicyCommand,
    event=types.PolicyEvent,
    initial=policy.initial,
    state=policy.State,
    decide=policy.decide,
    evolve=policy.evolve,
    outstanding=waits_for_nothing,
    due=never_due,
    when_due=no_deadline,
    keeps_place=keeps_nothing,
    results=(),
    sources=(policy, aggregate, types, common),
)
