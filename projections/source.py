"""The events topics for blocking readers: every valid record, from where a reading is to an offset."""

from collections.abc import Callable, Iterator
from typing import Any

from ops import kafka
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from projections import database
from projections.nouns import NOUNS
from projections.reading import Chain, Reading, Taken, aggregate_of
from schemas.codec import Codec, Unreadable
from schemas.registry import Registry

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
    """Reads the log that the settings name. Everything raises NotRegistered."""

    def __init__(self, settings: Settings) -> None:
        self.log = Log(kafka.confluent(settings))
        self._registry = Registry(kafka.registry(settings))
        self._codecs: dict[str, Codec[Any]] = {}

    def ends(self) -> dict[Chain, int]:
        """Of each partition of every noun's events, the offset that its next record will get. Raises LogUnavailable."""
        return {chain: self.log.bounds(*chain)[1] for topic in NOUNS for chain in self._chains(topic)}

    def decode(self, topic: str, value: bytes) -> Any:
        """The event, or None where the bytes cannot be read."""
        return self._decode(self._codec(topic), value)

    def valid(self, reading: Reading, end: int, step: Step = lambda records: None) -> Iterator[Taken]:
        """The valid records before `end` that `reading` has not taken yet. Raises ChainBroken, LogUnavailable."""
        chain, codec, count = reading.chain, self._codec(reading.chain.topic), 0
        for count, (offset, value) in enumerate(self.log.values(*chain, reading.head.next_offset, end), 1):
            if count % STEP == 0:
                step(STEP)
            event = self._decode(codec, value)
            if reading.take(event, value, offset) and event:
                yield Taken(chain, offset, aggregate_of(event, chain.partition), event, value)
        step(count % STEP)

    def _chains(self, topic: str) -> list[Chain]:
        if not (partitions := self.log.partitions(topic)):
            raise LogUnavailable(f"There is no topic {topic}: check KAFKA_BOOTSTRAP_SERVERS, or run `soma topics apply`.")
        return [Chain(topic, partition) for partition in range(partitions)]

    def _codec(self, topic: str) -> Codec[Any]:
        if topic not in self._codecs:
            self._codecs[topic] = self._registry.codec(topic, NOUNS[topic].event)
        return self._codecs[topic]

    def _decode(self, codec: Codec[Any], value: bytes) -> Any:
        try:
            return self._registry.decode(codec, value)
        except Unreadable:
            return None
