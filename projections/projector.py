"""`soma projector`: follows the events topics of NOUNS and keeps the read model (rules 2, 9, 10)."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError
from prometheus_client import start_http_server
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from ops import failpoints, groups, kafka, metrics, telemetry
from ops.embedded.group import together
from ops.settings import Settings
from projections import database, store, tuple_writer
from projections.nouns import NOUNS
from projections.reading import Chain, Progress, Reading, Taken, aggregate_of
from projections.source import checked
from schemas.chain import IN_DOUBT, ChainBroken
from schemas.codec import Codec, Unreadable, trace_of
from schemas.registry import NotRegistered, Registry

log = logging.getLogger("soma.projector")
GROUP = groups.PROJECTOR
BATCH = 1_000
IDLE_MS = 200
"""How long a fetch waits for records: as long as a new assignment may wait."""
STATEMENT_SECONDS = 30
PACE_SECONDS = 0.05
"""Transactions begin at least this far apart, for one with a record costs nearly what one with a thousand does. After a rest none waits."""

T = TypeVar("T")


async def wait_for(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, again for as long as the database or Kafka cannot be reached: nothing is lost meanwhile, the log keeps it."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((OperationalError, InterfaceError, KafkaConnectionError, KafkaTimeoutError)),
        wait=wait_exponential_jitter(multiplier=0.1, max=5),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )

    async def attempt() -> T:
        return await work()

    return await retrying(attempt)


class Projector(ConsumerRebalanceListener):  # type: ignore[misc]
    """Projects the partitions that its consumer is given. Any number may run: what another one wrote is noticed, and nothing doubled."""

    def __init__(self, consumer: AIOKafkaConsumer, engine: AsyncEngine, registry: Registry, codecs: dict[str, Codec[Any]]) -> None:
        self._consumer, self._engine, self._registry, self._codecs = consumer, engine, registry, codecs
        self._readings: dict[Chain, Reading] = {}
        self._unread: set[Chain] = set()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget them all. What is being written stays right: a position is moved only from the one that is expected."""
        for topic, partition in self._readings:
            metrics.lag.labels("projector", topic, str(partition)).set(0)  # whoever has it now tells
        self._readings.clear()
        self._unread.clear()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Fetch nothing until the read model has said where to go on: Kafka's committed offsets mean nothing here."""
        self._consumer.pause(*assigned)
        self._unread.update(Chain(*place) for place in assigned)

    async def run(self) -> None:
        """Project until cancelled, which may be at any moment. Raises ChainBroken where a partition cannot be read on, and OtherFold."""
        self._consumer.subscribe(list(self._codecs), listener=self)
        while True:
            await self._resume()
            paced = asyncio.get_running_loop().time() + PACE_SECONDS
            fetched = await self._consumer.getmany(timeout_ms=IDLE_MS, max_records=BATCH)
            await self._project({Chain(*place): records for place, records in fetched.items() if Chain(*place) in self._readings})
            await asyncio.sleep(paced - asyncio.get_running_loop().time())

    async def _resume(self) -> None:
        """Go to where the read model is, in each partition that is newly assigned or was moved by another projector."""
        if not self._unread:
            return
        chains = set(self._unread)
        stored = await wait_for(lambda: self._transaction(lambda connection: store.load(connection, chains)))
        first = await wait_for(lambda: self._consumer.beginning_offsets([TopicPartition(*chain) for chain in chains]))
        end = await wait_for(lambda: self._consumer.end_offsets([TopicPartition(*chain) for chain in chains]))
        for chain in chains & self._unread:  # some may have been revoked meanwhile
            place, position = TopicPartition(*chain), stored[chain].head.next_offset
            if not first[place] <= position <= end[place]:
                raise ChainBroken(
                    f"{chain} holds offsets {first[place]} to {end[place]}, but the read model goes on at {position}: "
                    "it was made from another log, or records are gone. If this log is the right one, run `soma rebuild`."
                )
            self._unread.remove(chain)
            self._readings[chain] = Reading(chain, stored[chain])
            self._consumer.seek(place, position)
            self._consumer.resume(place)

    async def _project(self, fetched: dict[Chain, Sequence[ConsumerRecord]]) -> None:
        """Write one fetch, of all its partitions, in one transaction. Raises ChainBroken when what precedes the break is written."""
        readings = {chain: self._readings[chain] for chain in fetched}
        before = {chain: reading.progress for chain, reading in readings.items()}
        taken, broken = list[Taken](), None
        with ExitStack() as spans:
            try:
                async for each, trace in self._valid(readings, fetched):
                    taken.append(each)
                    if each.event.meta.index == each.event.meta.count - 1:
                        spans.enter_context(telemetry.span(f"project {NOUNS[each.chain.topic].name}", trace))
            except ChainBroken as error:
                broken = error
            after = {chain: reading.progress for chain, reading in readings.items() if reading.progress != before[chain]}
            if after:
                await self._write({chain: before[chain] for chain in after}, after, taken)
        self._measure(taken)
        if broken:
            raise broken

    async def _valid(
        self, readings: dict[Chain, Reading], fetched: dict[Chain, Sequence[ConsumerRecord]]
    ) -> AsyncIterator[tuple[Taken, dict[str, str]]]:
        """The valid records, each with its trace. Raises ChainBroken."""
        for chain, reading in readings.items():
            for record in fetched[chain]:
                if record.offset != reading.head.next_offset:
                    raise ChainBroken(
                        f"{chain}: offset {record.offset} came where {reading.head.next_offset} is next: records are missing."
                    )
                event = await self._decode(chain, record)
                if reading.take(event, record.value or b"", record.offset) and event:
                    id = aggregate_of(event, chain.partition)
                    yield Taken(chain, record.offset, id, event, record.value), trace_of(record.headers)
                else:
                    metrics.void_records.labels("projector").inc()

    async def _decode(self, chain: Chain, record: ConsumerRecord) -> Any:
        try:
            return await self._registry.adecode(self._codecs[chain.topic], record.value)
        except Unreadable as error:
            log.error("%s: offset %d cannot be read: %s. %s", chain, record.offset, error, IN_DOUBT)
            return None

    async def _write(self, before: dict[Chain, Progress], after: dict[Chain, Progress], taken: list[Taken]) -> None:
        def write(connection: Connection) -> None:
            store.project(connection, before, after, taken)
            store.announce(connection, after)
            failpoints.reach("projector.before_commit")

        try:
            await wait_for(lambda: self._transaction(write))
            failpoints.reach("projector.after_commit")
        except store.Moved:
            log.warning("another projector, or a rebuild, moved the read model: going on from where it is now")
            metrics.projector_moved.inc()
            lost = before.keys() & self._readings.keys()
            self._unread |= lost
            self._consumer.pause(*(TopicPartition(*chain) for chain in lost))

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    def _measure(self, taken: list[Taken]) -> None:
        now = datetime.now(UTC)
        metrics.projected.inc(len(taken))
        for each in taken:
            metrics.projection_seconds.observe((now - each.event.meta.time).total_seconds())
        for chain, reading in self._readings.items():
            end = self._consumer.highwater(TopicPartition(*chain))
            if end is not None:
                metrics.lag.labels("projector", chain.topic, str(chain.partition)).set(end - reading.head.next_offset)


async def serve(settings: Settings) -> None:
    """The process, until cancelled. Raises ChainBroken, NotRegistered, NotConfigured, OtherFold."""
    registry = Registry(kafka.registry(settings))
    codecs = {topic: await asyncio.to_thread(registry.codec, topic, noun.event) for topic, noun in NOUNS.items()}
    engine = database.async_engine(database.url(settings), pool=1, statement_seconds=STATEMENT_SECONDS, options=database.DERIVED)
    consumer = AIOKafkaConsumer(**kafka.consumer(settings), group_id=GROUP, auto_offset_reset="earliest")
    try:
        await wait_for(consumer.start)
        writing = [tuple_writer.serve(settings, registry)] if settings.openfga_api_url else []
        await together(Projector(consumer, engine, registry, codecs).run(), *writing)
    finally:
        await consumer.stop()
        await engine.dispose()


async def _until_signal(settings: Settings) -> None:
    serving = asyncio.create_task(serve(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def run(settings: Settings) -> None:
    """`soma projector`. Ends the process with one message: exit code 1 when it must not go on, 2 when its settings are incomplete."""
    telemetry.setup("projector", settings)
    try:
        checked(settings)
    except ValueError as error:
        log.critical("%s", error)
        raise SystemExit(2) from None
    if settings.projector_metrics_port:
        start_http_server(settings.projector_metrics_port, "127.0.0.1")
    try:
        uvloop.run(_until_signal(settings))
    except (ChainBroken, NotRegistered, store.OtherFold) as error:
        log.critical("%s", error)
        raise SystemExit(1) from None
    except ProgrammingError as error:
        log.critical("the read model's tables are not those of this release, run `soma migrate`: %s", error.orig)
        raise SystemExit(1) from None
