"""A tenant's budget as callers see it: folded from its events, here and nowhere else."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from commands import budget
from commands.amounts import DIMENSIONS
from commands.budget import Bounded, State
from projections.noun import Row
from projections.text import rfc3339, storable
from schemas.chain import ChainBroken
from schemas.types.budget import BudgetEvent
from schemas.types.common import Amounts


class Budget(Struct, frozen=True):
    """A budget that was set, or drawn from. `position` is the last command that changed it."""

    id: str
    tenant: str
    partition: int
    state: State
    version: int
    position: str
    updated_at: datetime


_decoder = msgspec.msgpack.Decoder(Budget)


def evolve(known: Budget | None, event: BudgetEvent) -> Budget | None:
    """The budget after a valid record. Raises ChainBroken where versions are not contiguous (the cross-check of rule 2)."""
    meta = event.meta
    if meta.version is None:
        return known
    before = known.version if known else 0
    if meta.version != before + 1:
        raise ChainBroken(f"{meta.aggregate_id} has version {meta.version} after {before}")
    state = budget.evolve(known.state if known else budget.initial, event)
    position = f"{meta.command.partition}:{meta.command.offset}"
    return Budget(meta.aggregate_id, meta.tenant, meta.command.partition, state, meta.version, position, meta.time)


def row(known: Budget) -> Row:
    """The row of `budgets`."""
    return {
        "id": UUID(known.id),
        "tenant": storable(known.tenant),
        "partition": known.partition,
        "entry": msgspec.msgpack.encode(known),
    }


def read(stored: bytes) -> Budget:
    """What the column `entry` says."""
    return _decoder.decode(stored)


def document(known: Budget | None, now: datetime | None = None) -> dict[str, Any]:
    """The answer of a GET, ready for JSON, as a draw would find the budget now. One that was never set has no limits."""
    _, state = budget.at(known.state if known else budget.initial, now or datetime.now(UTC))
    bounded = state if isinstance(state, Bounded) else None
    limits = {name: getattr(bounded.limits, name) if bounded else None for name in (*DIMENSIONS, "seconds")}
    return {
        "limits": limits,
        "renews": bounded is not None and bounded.renews,
        "since": bounded and rfc3339(bounded.since),
        "until": bounded and bounded.until and rfc3339(bounded.until),
        "spent": _shown(state.pool.spent),
        "reserved": _shown(state.pool.reserved),
        "sessions": len(state.pool.held),
        "position": known and known.position,
        "updated_at": known and rfc3339(known.updated_at),
    }


def _shown(amounts: Amounts) -> dict[str, int]:
    return {name: getattr(amounts, name) for name in DIMENSIONS}
