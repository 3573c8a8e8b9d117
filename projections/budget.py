"""A tenant's budget as callers see it: folded from its events, here and nowhere else."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands import budget
from commands.amounts import DIMENSIONS
from commands.budget import Bounded, State
from projections.noun import Row
from projections.text import rfc3339, storable
from schemas.chain import ChainBroken
from schemas.types.budget import BudgetEvent
from schemas.types.common import Amounts, Refused

ANSWERS = 50
"""Commands of callers whose outcome is remembered, the last ones: for their answers, which are asked for at once."""


class Answer(Struct, frozen=True, array_like=True):
    """What the command at `position` led to: the code of its refusal, if it was one. Where it was `repeated`: what the first one did."""

    position: str
    id: str
    code: str = ""
    reason: str = ""
    repeated: bool = False


class Budget(Struct, frozen=True):
    """A budget that was set, or drawn from. `position` is the last command that changed it."""

    id: str
    tenant: str
    partition: int
    state: State
    version: int
    position: str
    updated_at: datetime
    answers: tuple[Answer, ...] = ()

    def answer(self, position: str) -> Answer | None:
        """What the caller's command there led to, while that is remembered."""
        return next((answer for answer in self.answers if answer.position == position), None)


_decoder = msgspec.msgpack.Decoder(Budget)


def evolve(known: Budget | None, event: BudgetEvent) -> Budget | None:
    """The budget after a valid record. Raises ChainBroken where versions are not contiguous (the cross-check of rule 2)."""
    meta = event.meta
    if meta.version is None:
        return known and replace(known, answers=_answers(known, event))
    before = known.version if known else 0
    if meta.version != before + 1:
        raise ChainBroken(f"{meta.aggregate_id} has version {meta.version} after {before}")
    state = budget.evolve(known.state if known else budget.initial, event)
    answers = _answers(known, event)
    return Budget(meta.aggregate_id, meta.tenant, meta.command.partition, state, meta.version, _position(event), meta.time, answers)


def _answers(known: Budget | None, event: BudgetEvent) -> tuple[Answer, ...]:
    """With that of this record, where a caller asked for it: a draw has no key."""
    answers, meta, body = known.answers if known else (), event.meta, event.body
    if meta.key_digest is None:
        return answers
    answer = Answer(_position(event), meta.command_id)
    if isinstance(body, Refused):
        first = next((each for each in answers if each.id == meta.command_id and each.code != "key_reused"), answer)
        repeated = body.code == "duplicate"
        answer = (
            replace(first, position=answer.position, repeated=True) if repeated else replace(answer, code=body.code, reason=body.reason)
        )
    return (*answers, answer)[-ANSWERS:]


def _position(event: BudgetEvent) -> str:
    return f"{event.meta.command.partition}:{event.meta.command.offset}"


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
