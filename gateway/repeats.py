"""Keeps those who knock without end from filling the record: of the same denial within some seconds the first stands for itself, and one
more decision for the number of all others.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from schemas.ids import new_id
from schemas.types.audit import Decision

WINDOW = timedelta(seconds=10)
KNOCKERS = 10_000
"""So many are told apart. With more at once, the one who began the longest ago is taken for a new one at the next knock."""
Key = tuple[str | None, ...]
Counted = list[tuple[str, Decision]]
"""Decisions to be put on record, each with its tenant."""


class Repeat(Struct):
    """The first decision, the last one, and how many came after the first."""

    tenant: str
    first: Decision
    last: Decision
    count: int = 0


class Repeats:
    """The windows that are open, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[Key, Repeat] = {}

    def take(self, tenant: str, decision: Decision) -> tuple[str, Counted]:
        """The id under which the decision is on record, its own or that of the first like it; and what is to be put on record before."""
        key = (tenant, decision.actor, decision.outcome, decision.action, decision.resource, decision.resource_id, decision.remote)
        over = self._open.pop(key) if key in self._open and _over(self._open[key], decision.time) else None
        gone = _counted([over] if over else [])
        if repeat := self._open.get(key):
            repeat.count, repeat.last = repeat.count + 1, decision
            return repeat.first.id, gone
        if len(self._open) >= KNOCKERS:
            gone += _counted([self._open.pop(next(iter(self._open)))])
        self._open[key] = Repeat(tenant, decision, decision)
        return decision.id, gone

    def over(self, now: datetime | None) -> Counted:
        """The counts of windows that are over, which are closed; of all of them for None."""
        ended = dict[Key, Repeat]()
        for key, repeat in self._open.items():
            if now is not None and not _over(repeat, now):
                break
            ended[key] = repeat
        for key in ended:
            del self._open[key]
        return _counted(ended.values())


def _over(repeat: Repeat, now: datetime) -> bool:
    return now - repeat.first.time >= WINDOW


def _counted(repeats: Iterable[Repeat]) -> Counted:
    return [
        (each.tenant, replace(each.last, id=new_id(0), count=each.count, first=each.first.id, request_id=None, trace_id=None))
        for each in repeats
        if each.count
    ]
