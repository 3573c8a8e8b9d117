"""How many partitions sessions are born in, and since when (rule 3).

`soma topics apply` writes a change to soma.layout before it raises anything; every gateway reads it and holds to the same moments.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from schemas.types.common import LayoutChanged

LAYOUT = "soma.layout"
SETTLE = timedelta(seconds=60)
"""After a change every gateway goes on with the former number for so long: all of them have read of it by then."""
REMEMBER = timedelta(hours=24)
"""How long an Idempotency-Key may come back that was used under a former number: as long as aggregates remember commands."""


class Layout:
    """The changes of one topic's number of partitions, in the order of the log."""

    def __init__(self, topic: str, settle: timedelta = SETTLE) -> None:
        self._topic, self._settle = topic, settle
        self._changes: list[LayoutChanged] = []

    def take(self, change: LayoutChanged) -> None:
        """Note a change, once: it is said again when raising the topic failed halfway."""
        if change.topic != self._topic or change.partitions <= self.largest:
            return
        if not self._changes and change.former:
            self._changes.append(LayoutChanged(topic=self._topic, partitions=change.former, time=datetime.min.replace(tzinfo=UTC)))
        self._changes.append(change)

    @property
    def largest(self) -> int:
        """The number that was announced last; 0 before anything was."""
        return self._changes[-1].partitions if self._changes else 0

    def in_force(self, now: datetime) -> int:
        """The number that keyed ids are made with; 0 where none is known."""
        return next((change.partitions for change in reversed(self._changes) if self._since(change) <= now), 0)

    def former(self, now: datetime) -> list[int]:
        """Numbers that were in force within the last 24 hours and are not any more, the newest first."""
        past = [change for change in self._changes if self._since(change) <= now]
        return [before.partitions for before, after in pairwise(past) if now - self._since(after) < REMEMBER][::-1]

    def _since(self, change: LayoutChanged) -> datetime:
        return change.time if change.former is None else change.time + self._settle
