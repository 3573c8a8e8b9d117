"""`soma verify --chain`: walks each events partition from its beginning, and says what is valid, what is void, and where the chain ends.

A second writer's records are void, and harmless: the chain goes on without them. A record that was altered is another matter:
the one behind it names a digest that no record has, and nothing after that continues the chain.
What nobody built upon, the last record, only its own bytes vouch for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ops.settings import Settings
from projections.cores import Watch, over_partitions
from projections.reading import Chain
from projections.source import STEP, Source, Step
from schemas.chain import ChainBroken, Head, digest
from schemas.types.common import Digest


class Proof(NamedTuple):
    """One partition: how many records continue the chain, which ranges of offsets are void, and where it is broken, if it is."""

    valid: int
    void: list[tuple[int, int]]
    broken: str | None


def prove(settings: Settings, begin: Callable[[dict[Chain, int]], None], watch: Watch) -> dict[Chain, Proof]:
    """Every partition's proof. Raises LogUnavailable."""
    sizes = Source(settings).ends()
    begin(sizes)
    return over_partitions(prove_partition, (settings, sizes), sizes, watch)


def prove_partition(argument: tuple[Settings, dict[Chain, int]], chain: Chain, step: Step) -> Proof:
    """One partition, up to the end that was named."""
    settings, ends = argument
    source, walk = Source(settings), Walk()
    count, broken = 0, None
    for count, (offset, value) in enumerate(source.log.values(*chain, 0, ends[chain]), 1):
        if count % STEP == 0:
            step(STEP)
        if broken := walk.take(offset, value, source.decode(chain.topic, value)):
            break
    step(count % STEP)
    return Proof(walk.head.sequence, walk.void, broken or walk.unfinished())


class Walk:
    """Goes along one chain. `void` are the ranges of offsets, both ends included, that do not continue it."""

    def __init__(self) -> None:
        self.head, self.void = Head(), list[tuple[int, int]]()
        self._siblings: set[Digest] = set()  # digests of the void records since the last valid one
        self._orphan: int | None = None

    def take(self, offset: int, value: bytes, event: Any) -> str | None:
        """Go on by one record, `event` being None where it cannot be read. Where that is impossible, why."""
        if offset != self.head.next_offset:
            return f"offsets {self.head.next_offset} to {offset - 1} are missing"
        if event is None:
            self.head = self.head.pass_unreadable(offset)
        else:
            try:
                self.head, valid = self.head.take(event.meta, value, offset)
            except ChainBroken as error:
                return str(error) if self._orphan is None else self.unfinished()
            if valid:
                self._siblings.clear()
                self._orphan = None
                return None
            if self._orphan in (None, offset - 1) and self._is_orphan(event):
                self._orphan = offset  # where what a record says of its predecessor was altered, that record and the next are orphans
        self._siblings.add(digest(value))
        self._note(offset)
        return None

    def unfinished(self) -> str | None:
        """What the records behind the last valid one say, if nothing more comes."""
        if self._orphan is not None:
            last = self._orphan == self.head.next_offset - 1  # with nothing built upon it, it may be the altered one itself
            return (
                f"altered at or before offset {self._orphan if last else self._orphan - 1}: offset {self._orphan} continues a record "
                f"that is not in the log, and nothing continues sequence {self.head.sequence}, the last valid one"
            )
        if self.head.doubt is not None:
            return f"offset {self.head.doubt} cannot be read, and nothing continues sequence {self.head.sequence} without it"
        return None

    def _is_orphan(self, event: Any) -> bool:
        """A second writer's record builds on one that is here, be it void; an orphan on one that is not here as it was."""
        meta = event.meta
        return meta.sequence > self.head.sequence and meta.previous != self.head.digest and meta.previous not in self._siblings

    def _note(self, offset: int) -> None:
        if self.void and self.void[-1][1] == offset - 1:
            self.void[-1] = (self.void[-1][0], offset)
        else:
            self.void.append((offset, offset))
