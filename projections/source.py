"""The events topic for blocking readers: every valid record, from where a reading is to an offset."""

from collections.abc import Callable, Iterator

from ops import kafka
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from projections import database
from projections.reading import EVENTS, Reading, Taken, session_of
from schemas.codec import Unreadable
from schemas.registry import Registry
from schemas.types.session import SessionEvent

STEP = 2_000
Step = Callable[[int], None]
"""Told how many more records were read."""


def checked(settings: Settings) -> Settings:
    """The same. Raises ValueError, which says which, where an address is missing that a reader of the log and its read model need."""
    kafka.bootstrap(settings)
    kafka.registry(settings)
    database.url(settings)
    return settings


class Source:
    """Reads the log that the settings name. Raises NotRegistered."""

    def __init__(self, settings: Settings) -> None:
        self.log = Log(kafka.confluent(settings))
        self._registry = Registry(kafka.registry(settings))
        self._codec = self._registry.codec(EVENTS, SessionEvent)

    def ends(self) -> dict[int, int]:
        """Of each partition, the offset that its next record will get. Raises LogUnavailable."""
        if not (partitions := self.log.partitions(EVENTS)):
            raise LogUnavailable(f"There is no topic {EVENTS}: check KAFKA_BOOTSTRAP_SERVERS, or run `soma topics apply`.")
        return {partition: self.log.bounds(EVENTS, partition)[1] for partition in range(partitions)}

    def decode(self, value: bytes) -> SessionEvent | None:
        """The event, or None where the bytes cannot be read."""
        try:
            return self._registry.decode(self._codec, value)
        except Unreadable:
            return None

    def valid(self, reading: Reading, end: int, step: Step = lambda records: None) -> Iterator[Taken]:
        """The valid records before `end` that `reading` has not taken yet. Raises ChainBroken, LogUnavailable."""
        partition, count = reading.partition, 0
        for count, (offset, value) in enumerate(self.log.values(EVENTS, partition, reading.head.next_offset, end), 1):
            if count % STEP == 0:
                step(STEP)
            event = self.decode(value)
            if reading.take(event, value, offset) and event:
                yield Taken(partition, offset, session_of(event, partition), event, value)
        step(count % STEP)
