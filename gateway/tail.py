"""Follows every events partition, decodes each record once, and hands it to whoever waits for that session.

A record must not be believed before its place in the chain is checked, and a chain can be checked only from a known head.
So the tail begins where the read model stands: its positions hold heads that a projector has checked from the first record on.
Where there is no read model to ask, it begins at the first record itself, which takes longer and is as sound.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import NamedTuple, Never

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway.layout import LAYOUT, Layout
from gateway.link import Link
from gateway.positions import Place
from gateway.recent import Recent
from gateway.records import COMMANDS, OUTPUT, Records
from ops import metrics
from projections.queries import Queries, ReadModelDown
from projections.reading import Chain, Progress, Reading, aggregate_of
from projections.session import EVENTS, View
from schemas.chain import IN_DOUBT, ChainBroken
from schemas.codec import Unreadable
from schemas.types.session import OutputDelta, SessionEvent

log = logging.getLogger("soma.gateway")
POLL_MS = 500
BATCH = 200
"""Records taken in one go: what else this process does waits no longer than they take."""
LOOK_SECONDS = 1.0
READ_MODEL_SECONDS = 5.0
QUEUE = 1_000


class Taken(NamedTuple):
    """A valid record. `view` is the session after it, where that is known."""

    place: Place
    event: SessionEvent
    view: View | None


class FellBehind(Exception):
    """More has happened than this follower took in time, or the gateway stops: read the history, and follow again."""


class Follower:
    """What happens to one session from now on, in order. `since` is the first offset that it would bring;
    `written` are the pieces of its reply that came before.
    """

    def __init__(self, since: int, written: tuple[bytes, ...]) -> None:
        self.since, self.written = since, written
        self._queue: asyncio.Queue[Taken | OutputDelta | None] = asyncio.Queue(QUEUE)
        self._closed = False

    def put(self, item: Taken | OutputDelta | None) -> None:
        """Never waits: one who is slow must not hold up the others."""
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self._closed = True

    def close(self) -> None:
        """Let go of whoever waits."""
        self._closed = True
        self.put(None)

    async def next(self) -> Taken | OutputDelta:
        """Raises FellBehind."""
        item = None if self._closed else await self._queue.get()
        if item is None:
            raise FellBehind
        return item

    async def record(self) -> Taken:
        """The next record, whatever is written meanwhile. Raises FellBehind."""
        while not isinstance(item := await self.next(), Taken):
            pass
        return item


class Tail:
    """`readings` are the partitions that are read. `caught_up` once everything was read that was there at the beginning.

    `when_taken` is told of each valid record of a session.
    """

    def __init__(self, consumer: AIOKafkaConsumer, link: Link, records: Records, queries: Queries, layout: Layout, recent: Recent) -> None:
        self._consumer, self._link, self._records, self._queries = consumer, link, records, queries
        self._layout, self._recent = layout, recent
        self._followers: defaultdict[str, set[Follower]] = defaultdict(set)
        self._next: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self.readings: dict[int, Reading] = {}
        self.when_taken: list[Callable[[SessionEvent], None]] = []
        self.commands = 0

    @property
    def caught_up(self) -> bool:
        return bool(self.readings) and all(self._next[place] >= end for place, end in self._ends.items())

    @property
    def usable(self) -> int:
        """In how many partitions sessions may be born: the tail reads their events, and commands reach them."""
        return min(len(self.readings), self.commands)

    @contextmanager
    def follow(self, session_id: str, partition: int) -> Iterator[Follower]:
        """What happens to the session while this is entered."""
        follower = Follower(self.readings[partition].head.next_offset, self._recent.output(session_id))
        self._followers[session_id].add(follower)
        try:
            yield follower
        finally:
            self._followers[session_id].discard(follower)
            if not self._followers[session_id]:
                del self._followers[session_id]

    async def run(self) -> Never:
        """Raises ChainBroken where a partition cannot be read on, and KafkaError."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, TimeoutError)),
            wait=wait_exponential_jitter(multiplier=0.2, max=2),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(self._consumer.start)
        stored = await self._stored()
        looked = 0.0
        while True:
            if monotonic() - looked > LOOK_SECONDS:
                await retrying(self._look, stored)
                looked = monotonic()
            for place, records in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)).items():
                await self._take(place, records)
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing is lost by whatever goes wrong here. aiokafka raises CancelledError where a fetch waits for a broker that is down."""
        await asyncio.gather(self._consumer.stop(), return_exceptions=True)

    async def _stored(self) -> dict[int, Progress]:
        """Where the read model stands; nothing where it cannot be asked."""
        try:
            async with asyncio.timeout(READ_MODEL_SECONDS):
                return await self._queries.positions(EVENTS)
        except (ReadModelDown, TimeoutError):
            log.warning("the read model does not answer: reading the events from their beginning, which takes longer")
            return {}

    async def _look(self, stored: dict[int, Progress]) -> None:
        """Begin to read partitions that are new. Raises KafkaError, TimeoutError."""
        count = await self._link.partitions(EVENTS)
        self.commands = await self._link.partitions(COMMANDS)
        new = range(len(self.readings), count)
        if not new:
            return
        events = [TopicPartition(EVENTS, number) for number in new]
        output = [TopicPartition(OUTPUT, number) for number in range(await self._link.partitions(OUTPUT))]
        layout = TopicPartition(LAYOUT, 0)
        ends = await self._consumer.end_offsets([*events, *output, layout])
        self._next = {layout: 0} | {place: ends[place] for place in output} | self._next
        self._ends = self._ends or {layout: ends[layout]} | {place: ends[place] for place in events}
        for place in events:
            progress = stored.get(place.partition, Progress())
            if progress.head.next_offset > ends[place]:
                log.warning("%s/%d ends before the read model's place: reading it from the beginning", EVENTS, place.partition)
                progress = Progress()
            self.readings[place.partition] = Reading(Chain(EVENTS, place.partition), progress)
            self._next[place] = progress.head.next_offset
        self._consumer.assign(list(self._next))
        for place, offset in self._next.items():
            self._consumer.seek(place, offset)

    async def _take(self, place: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        take = {EVENTS: self._take_event, OUTPUT: self._take_output, LAYOUT: self._take_layout}[place.topic]
        for record in records:
            await take(record)
            self._next[place] = record.offset + 1
        if place.topic == EVENTS and (end := self._consumer.highwater(place)) is not None:
            metrics.lag.labels("gateway", EVENTS, str(place.partition)).set(end - self._next[place])

    async def _take_event(self, record: ConsumerRecord) -> None:
        reading, place = self.readings[record.partition], Place(record.partition, record.offset)
        if record.offset != reading.head.next_offset:
            raise ChainBroken(f"{EVENTS}: {place} came where offset {reading.head.next_offset} is next: records are missing.")
        try:
            event = await self._records.event(record.value)
        except Unreadable as error:
            log.error("%s: %s cannot be read: %s. %s", EVENTS, place, error, IN_DOUBT)
            reading.take(None, b"", record.offset)
            return
        if not reading.take(event, record.value, record.offset):
            metrics.void_records.labels("gateway").inc()
        elif session_id := aggregate_of(event, record.partition):
            view = self._recent.take(event, str(place), len(record.value))
            for tell in self.when_taken:
                tell(event)
            for follower in self._followers.get(session_id, ()):
                follower.put(Taken(place, event, view))

    async def _take_output(self, record: ConsumerRecord) -> None:
        """Decoded only where someone waits for it."""
        session_id = (record.key or b"").decode("utf-8", "replace")
        self._recent.take_output(session_id, record.value or b"")
        if followers := self._followers.get(session_id):
            try:
                delta = await self._records.output(record.value)
            except Unreadable as error:
                log.warning("a piece of output cannot be read: %s", error)
                return
            for follower in followers:
                follower.put(delta)

    async def _take_layout(self, record: ConsumerRecord) -> None:
        try:
            self._layout.take(await self._records.layout(record.value))
        except Unreadable as error:
            raise ChainBroken(f"{LAYOUT}: offset {record.offset} cannot be read, so ids from keys cannot be made: {error}") from error
