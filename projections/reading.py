"""Reads one events partition in order: what is valid, and how far a reader may say it has come."""

from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from projections import call
from projections.call import Call
from projections.session import Summary, summarize
from schemas.chain import ChainBroken, Head
from schemas.ids import partition_of
from schemas.types.session import SessionEvent

EVENTS = "soma.session.events"


class Progress(Struct, frozen=True):
    """How far a partition was read, and the last command whose records were all there (-1 before the first)."""

    head: Head = Head()
    epoch: str = ""
    command_offset: int = -1


class Taken(NamedTuple):
    """A valid record and where it lies. `session_id` is None where it belongs to no session of its partition."""

    partition: int
    offset: int
    session_id: str | None
    event: SessionEvent
    value: bytes


class Reading:
    """Takes one partition's records. `progress` is how far they may be accounted for: never into a record that is in doubt,
    so that a release which can read it begins there.
    """

    def __init__(self, partition: int, progress: Progress) -> None:
        self.partition, self.progress, self.head = partition, progress, progress.head

    def take(self, event: SessionEvent | None, value: bytes, offset: int) -> bool:
        """Whether the record at `offset` is valid. `event` is None where the bytes cannot be read (rule 9).

        Raises ChainBroken where valid records have stopped, and where one builds on a record that cannot be read.
        """
        if event is None:
            self.head = self.head.pass_unreadable(offset)
            return False
        try:
            self.head, valid = self.head.take(event.meta, value, offset)
        except ChainBroken as error:
            raise ChainBroken(f"{EVENTS}/{self.partition}: {error}") from error
        if self.head.doubt is None:
            self.progress = self._progress(event) if valid else Progress(self.head, self.progress.epoch, self.progress.command_offset)
        return valid

    def _progress(self, event: SessionEvent) -> Progress:
        meta = event.meta
        if meta.index == meta.count - 1:
            return Progress(self.head, meta.command.epoch, meta.command.offset)
        return Progress(self.head, self.progress.epoch, self.progress.command_offset)


class Folded(NamedTuple):
    """Sessions and their tool calls, by id."""

    summaries: dict[str, Summary]
    calls: dict[str, Call]

    def take(self, taken: Taken) -> None:
        """Bring the record's session and its calls up to it."""
        if not taken.session_id:
            return
        before = self.summaries.get(taken.session_id)
        if (after := summarize(before, taken.event)) is None:
            return
        self.summaries[taken.session_id] = after
        for id in call.touched(before, taken.event):
            if (entry := call.evolve(self.calls.get(id), taken.event)) is not None:
                self.calls[id] = entry


def session_of(event: SessionEvent, partition: int) -> str | None:
    """The session that a record of this partition belongs to (rule 3). None for a record of no session and for a misrouted command's."""
    id = event.meta.aggregate_id
    return id if _home(id) == partition else None


@lru_cache(10_000)
def _home(id: str) -> int | None:
    try:
        return partition_of(id)
    except ValueError:
        return None
