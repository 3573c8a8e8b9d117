"""Reads the events as they were recorded: a range, filtered; a session's timeline; an export. Only valid records (rule 2)."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec

from ops.log import Log, Record
from schemas.chain import Head
from schemas.codec import Codec, Unreadable
from schemas.ids import partition_of
from schemas.places import Moment, Place, Position
from schemas.types.session import SessionEvent

if TYPE_CHECKING:  # it takes a second to import, and `soma --help` should not wait for it
    from schemas.registry import Registry

EVENTS = "soma.session.events"
TYPES = frozenset(kind.__name__ for kind in get_args(get_type_hints(SessionEvent)["body"]))
"""What an event of a session can be."""
RUN_UP = 500
"""Records read before the first one that is shown, to find the chain there."""


@dataclass(frozen=True)
class Filter:
    """What is shown. Times are those of the commands; `since` is included, `until` is not. Raises ValueError on another type."""

    session: str | None = None
    types: frozenset[str] = frozenset()
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if strange := sorted(self.types - TYPES):
            raise ValueError(f"there is no event of type {strange[0]!r}: choose of {', '.join(sorted(TYPES))}")

    def __call__(self, event: SessionEvent) -> bool:
        meta = event.meta
        return (
            self.session in (None, meta.aggregate_id)
            and (not self.types or type(event.body).__name__ in self.types)
            and self.tenant in (None, meta.tenant)
            and (self.since is None or meta.time >= self.since)
            and (self.until is None or meta.time < self.until)
        )


class Recorded(msgspec.Struct, frozen=True):
    """A valid record and where it stands."""

    place: Place
    event: SessionEvent
    value: bytes
    appended: datetime


class Replay:
    """An events topic, for people: that of sessions, unless another one is named. Blocks; raises LogUnavailable.

    `opened` says what is shown of an event, once the chain has been checked over it as it lies there.
    """

    def __init__(
        self, log: Log, registry: "Registry", codec: Codec[Any], topic: str = EVENTS, opened: Callable[[Any], Any] = lambda event: event
    ) -> None:
        self._log, self._registry, self._codec, self._topic, self._opened = log, registry, codec, topic, opened

    def partitions(self, wanted: Filter) -> list[int]:
        """Where records that pass can be. Raises ValueError when the session's id is none."""
        if wanted.session is None:
            return list(range(self._log.partitions(self._topic)))
        try:
            return [partition_of(wanted.session)]
        except ValueError as error:
            raise ValueError(f"{wanted.session!r} is no id of a session: it is a UUID, as POST /v1/sessions gives it") from error

    def ends(self, partitions: list[int]) -> dict[int, int]:
        """The next offset of each partition."""
        return {partition: self._log.bounds(self._topic, partition)[1] for partition in partitions}

    def range(self, wanted: Filter, starts: dict[int, int], ends: dict[int, int], seen: Callable[[int], object] = id) -> Iterator[Recorded]:
        """Records from `starts` to `ends` that pass, merged by the time of their append. `seen` is told of each record read."""
        parts = [self.read(partition, starts[partition], ends[partition], seen) for partition in starts]
        return (recorded for recorded in heapq.merge(*parts, key=lambda recorded: recorded.appended) if wanted(recorded.event))

    def read(self, partition: int, start: int, end: int, seen: Callable[[int], object] = id) -> Iterator[Recorded]:
        """Valid records of a partition."""
        head = self._head(partition, start)
        for record, event in self._decoded(partition, start, end):
            seen(record.offset)
            if event is None:
                head = head.pass_unreadable(record.offset)
                continue
            head, valid = head.take(event.meta, record.value or b"", record.offset)
            if valid:
                yield _recorded(record, self._opened(event))

    def _head(self, partition: int, start: int) -> Head:
        """The chain up to `start`. In a long log: as the last records before it bear each other out."""
        begin = start - RUN_UP if start > 2 * RUN_UP else 0
        head, proved = Head(), begin == 0
        for record, event in self._decoded(partition, begin, start):
            if event is None:
                head = head.pass_unreadable(record.offset)
                continue
            value = record.value or b""
            head, valid = head.take(event.meta, value, record.offset)
            proved = proved or valid
            if not proved:
                head = Head.after(event.meta, value, record.offset)
        return head

    def _decoded(self, partition: int, start: int, end: int) -> Iterator[tuple[Record, SessionEvent | None]]:
        for record in self._log.read(self._topic, partition, start, end):
            try:
                yield record, self._registry.decode(self._codec, record.value)
            except Unreadable:
                yield record, None

    def timeline(self, session: str, as_of: Moment | None, seen: Callable[[int], object] = id) -> Iterator[Recorded]:
        """A session's records from its first, up to a moment."""
        wanted = Filter(session=session)
        partition = partition_of(session)
        for recorded in self.range(wanted, {partition: 0}, self.ends([partition]), seen):
            if as_of is None or _within(recorded, as_of):
                yield recorded


def _within(recorded: Recorded, as_of: Moment) -> bool:
    meta = recorded.event.meta
    match as_of:
        case Position(partition, offset):
            return (meta.command.partition, meta.command.offset) <= (partition, offset)
        case datetime():
            return meta.time <= as_of
        case _:
            return meta.version is None or meta.version <= as_of


def _recorded(record: Record, event: SessionEvent) -> Recorded:
    appended = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return Recorded(Place(record.partition, record.offset), event, record.value or b"", appended)


def as_json(recorded: Recorded) -> bytes:
    """One line of JSON: the event, and its place."""
    return msgspec.json.encode({"place": str(recorded.place), "appended": recorded.appended, "event": recorded.event})
