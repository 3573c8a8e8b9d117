"""The policies as the generic processor sees them. Nothing waits for anybody here, and no clock changes them."""

from datetime import datetime
from typing import Any, Never

from commands import policy
from schemas.types import common
from schemas.types import policy as types
from streams import aggregate
from streams.noun import Noun, keeps_nothing, waits_for_nothing


def _never(_: Any) -> datetime | None:
    """Policies have no deadline."""


def _no_command(state: Any, id: str) -> Never:
    raise ValueError(f"{type(state).__name__} has no deadline: {id}")


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
    due=_never,
    when_due=_no_command,
    keeps_place=keeps_nothing,
    results=(),
    sources=(policy, aggregate, types, common),
)
