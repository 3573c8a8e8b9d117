"""Follows a small events topic whole, in memory: the catalogue of what tenants call by names.

Every record is read from the first one on, its place in the chain checked as every reader must, and folded by a given function. So a
catalogue needs no store, and is lost and had again with its process.
"""

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Never, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from cachetools import LRUCache
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from ops import metrics
from schemas.chain import IN_DOUBT, ChainBroken, Head
from schemas.codec import Codec, Unreadable
from schemas.contract import topics
from schemas.ids import named_id
from schemas.registry import Registry
from schemas.types.common import Digest, EventMeta, Position, Refused

log = logging.getLogger("soma.follow")
POLL_MS = 500
BATCH = 200
"""Records taken in one go: what else the process does waits no longer than they take."""
OUTCOMES = 10_000
"""Outcomes of callers' commands that are remembered, the newest ones."""

V = TypeVar("V")


@dataclass(frozen=True)
class Subject(Generic[V]):
    """A noun that is followed. `evolve` gives what is known of an aggregate after a versioned event; before the first it is None."""

    noun: str
    events: str
    event: type[Any]
    evolve: Callable[[V | None, Any], V]


class Outcome(NamedTuple, Generic[V]):
    """What became of a command: its records, and what is known of its aggregate after them."""

    events: tuple[Any, ...]
    known: V | None


Asked = tuple[str, Digest | None]
"""A command's id, and the digest of its caller's body."""


class Catalogue(Generic[V]):
    """`arguments` are those of aiokafka's clients; `reader` says in the metrics who reads. Nothing is known before `run` reads it."""

    def __init__(self, subject: Subject[V], registry: Registry, arguments: dict[str, Any], reader: str) -> None:
        self.subject = subject
        self._registry, self._arguments, self._reader = registry, arguments, reader
        self._known: defaultdict[str, dict[str, V]] = defaultdict(dict)
        self._versions: dict[str, int] = {}
        self._outcomes: LRUCache[str, Outcome[V]] = LRUCache(OUTCOMES)
        self._begun: dict[int, list[Any]] = defaultdict(list)
        self._waiting: defaultdict[Asked, set[asyncio.Future[Outcome[V]]]] = defaultdict(set)
        self._heads: dict[int, Head] = {}
        self._ends: dict[int, int] = {}
        self._applied: dict[int, Position] = {}
        self._moved = asyncio.Event()
        self.when_known: list[Callable[[V], None]] = []
        """Each is told what is known of an aggregate after each of its versioned events."""

    # What is known

    def find(self, tenant: str, name: str) -> V | None:
        """What is known of the tenant's aggregate of this name."""
        return self._known[tenant].get(named_id(tenant, self.subject.noun, name)) if tenant in self._known else None

    def all(self, tenant: str) -> list[V]:
        """All that the tenant has, in no particular order."""
        return list(self._known[tenant].values()) if tenant in self._known else []

    def everybodys(self) -> Iterator[V]:
        """What all tenants have."""
        return itertools.chain.from_iterable(of_tenant.values() for of_tenant in self._known.values())

    @property
    def ready(self) -> bool:
        """Whether everything was read that was there at the beginning."""
        return bool(self._ends) and self._holds(self._ends)

    async def caught_up(self) -> None:
        """Returns once it is `ready`."""
        while not self.ready:
            await self._moved.wait()

    async def reached(self, ends: Mapping[int, int]) -> None:
        """Returns once everything before these offsets, by partition, is taken in."""
        while not self._holds(ends):
            await self._moved.wait()

    async def passed(self, partition: int, offset: int, seconds: float) -> bool:
        """Whether the command there, of the newest epoch, is taken in; waits for it at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while not self._has(partition, offset):
                    await self._moved.wait()
        except TimeoutError:
            return self._has(partition, offset)
        return True

    def outcome(self, id: str) -> Outcome[V] | None:
        """What became of the last caller's command with this id that was no repetition, where that is remembered."""
        return self._outcomes.get(id)

    @contextmanager
    def expecting(self, id: str, digest: Digest | None) -> Iterator["asyncio.Future[Outcome[V]]"]:
        """What becomes of the next command with this id and digest, once its last record has passed."""
        future: asyncio.Future[Outcome[V]] = asyncio.get_running_loop().create_future()
        self._waiting[id, digest].add(future)
        try:
            yield future
        finally:
            future.cancel()
            self._waiting[id, digest].discard(future)
            if not self._waiting[id, digest]:
                del self._waiting[id, digest]

    def _holds(self, ends: Mapping[int, int]) -> bool:
        return all(number in self._heads and self._heads[number].next_offset >= end for number, end in ends.items())

    def _has(self, partition: int, offset: int) -> bool:
        return partition in self._applied and self._applied[partition].offset >= offset

    # Reading

    async def run(self) -> Never:
        """Follow until cancelled; a Kafka or a registry that is away is waited for. Raises ChainBroken, NotRegistered, KafkaError."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, TimeoutError)),
            wait=wait_exponential_jitter(multiplier=0.2, max=2),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await self._registry.answers()
        self._codec: Codec[Any] = await asyncio.to_thread(self._registry.codec, self.subject.events, self.subject.event)
        consumer = AIOKafkaConsumer(**self._arguments, enable_auto_commit=False, auto_offset_reset="none")
        try:
            await retrying(consumer.start)
            await retrying(self._begin, consumer)
            while True:
                self._tell()
                for place, records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)).items():
                    await self._take(place.partition, records)
                    metrics.lag.labels(self._reader, place.topic, str(place.partition)).set(self._behind(consumer, place))
                await asyncio.sleep(0)
        finally:
            await asyncio.gather(consumer.stop(), return_exceptions=True)

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        number = topics()[self.subject.events].partitions
        assert isinstance(number, int), "only topics that never grow are followed whole"
        places = [TopicPartition(self.subject.events, partition) for partition in range(number)]
        self._ends = {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}
        self._heads = {place.partition: Head() for place in places}
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)

    async def _take(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            where, head = f"{self.subject.events}/{partition}", self._heads[partition]
            if record.offset != head.next_offset:
                raise ChainBroken(f"{where}: offset {record.offset} came where {head.next_offset} is next: records are missing.")
            try:
                event = await self._registry.adecode(self._codec, record.value)
            except Unreadable as error:
                log.error("%s: offset %d cannot be read: %s. %s", where, record.offset, error, IN_DOUBT)
                self._heads[partition] = head.pass_unreadable(record.offset)
                continue
            try:
                self._heads[partition], valid = head.take(event.meta, record.value, record.offset)
            except ChainBroken as error:
                raise ChainBroken(f"{where}: {error}") from error
            if valid:
                self._fold(partition, event)
            else:
                metrics.void_records.labels(self._reader).inc()

    def _fold(self, partition: int, event: Any) -> None:
        """Take a valid record in. Raises ChainBroken where the versions of its aggregate are not contiguous."""
        meta: EventMeta = event.meta
        if meta.version is not None:
            before = self._versions.get(meta.aggregate_id, 0)
            if meta.version != before + 1:
                raise ChainBroken(f"{self.subject.events}/{partition}: {meta.aggregate_id} has version {meta.version} after {before}")
            self._versions[meta.aggregate_id] = meta.version
            known = self._known[meta.tenant]
            known[meta.aggregate_id] = now = self.subject.evolve(known.get(meta.aggregate_id), event)
            for tell in self.when_known:
                tell(now)
        mine = self._begun[partition]
        mine.append(event)
        if meta.index == meta.count - 1:
            self._begun[partition] = []
            self._applied[partition] = meta.command
            self._conclude(meta, Outcome(tuple(mine), self._known[meta.tenant].get(meta.aggregate_id)))

    def _conclude(self, meta: EventMeta, outcome: Outcome[V]) -> None:
        """A command's last record has passed: remember what its caller may ask for again, and tell who waits."""
        asked, body = (meta.command_id, meta.key_digest), outcome.events[-1].body
        for future in self._waiting.get(asked, ()):
            if not future.done():
                future.set_result(outcome)
        if meta.key_digest is not None and not (isinstance(body, Refused) and body.code in ("duplicate", "key_reused")):
            self._outcomes[meta.command_id] = outcome

    def _tell(self) -> None:
        """Wake who waits for the catalogue to come as far as they ask."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _behind(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
        end: int | None = consumer.highwater(place)
        return 0 if end is None else end - self._heads[place.partition].next_offset
