"""Reads one events partition in order: what is valid, and how far a reader may say it has come."""

from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct

from schemas.chain import ChainBroken, Head
from schemas.ids import partition_of


class Chain(NamedTuple):
    """One partition of an events topic: what is read in order, and has a position."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Progress(Struct, frozen=True):
    """How far a partition was read, and the last command whose records were all there (-1 before the first)."""

    head: Head = Head()
    epoch: str = ""
    command_offset: int = -1


class Taken(NamedTuple):
    """A valid record and where it lies. `id` is its aggregate's, None where it belongs to no aggregate of its partition."""

    chain: Chain
    offset: int
    id: str | None
    event: Any
    value: bytes


class Reading:
    """Takes one partition's records. `progress` is how far they may be accounted for: never into a record that is in doubt,
    so that a release which can read it begins there.
    """

    def __init__(self, chain: Chain, progress: Progress) -> None:
        self.chain, self.progress, self.head = chain, progress, progress.head

    def take(self, event: Any, value: bytes, offset: int) -> bool:
        """Whether the record at `offset` is valid. `event` is None where the bytes cannot be read (rule 9).

        Raises ChainBroken where valid records have stopped, and where one builds on a record that cannot be read.
        """
        if event is None:
            self.head = self.head.pass_unreadable(offset)
            return False
        try:
            self.head, valid = self.head.take(event.meta, value, offset)
        except ChainBroken as error:
            raise ChainBroken(f"{self.chain}: {error}") from error
        if self.head.doubt is None:
            self.progress = self._progress(event) if valid else Progress(self.head, self.progress.epoch, self.progress.command_offset)
        return valid

    def _progress(self, event: Any) -> Progress:
        meta = event.meta
        if meta.index == meta.count - 1:
            return Progress(self.head, meta.command.epoch, meta.command.offset)
        return Progress(self.head, self.progress.epoch, self.progress.command_offset)


def aggregate_of(event: Any, partition: int) -> str | None:
    """The aggregate that a record of this partition belongs to (rule 3). None for a record of none and for a misrouted command's."""
    id: str = event.meta.aggregate_id
    return id if _home(id) == partition else None


@lru_cache(10_000)
def _home(id: str) -> int | None:
    try:
        return partition_of(id)
    except ValueError:
        return None
