"""A worker's insides on a real broker: one partition's processor, its topics, and someone who notes what effects are wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from ops import kafka, topics
from ops.log import Log, Record
from ops.settings import Settings
from schemas.chain import Head
from schemas.codec import Codec, Unreadable
from schemas.ids import derived_id, new_id
from schemas.registry import Registry
from schemas.types.common import CommandMeta
from schemas.types.session import StartSession
from streams.noun import Noun
from streams.orchestrator import OUTPUT
from streams.processor import Processor
from streams.services import Services
from streams.session import SESSION

PARTITIONS = 32


class Noted:
    """Effects that are only noted."""

    def __init__(self) -> None:
        self.wanted: dict[str, Any] = {}
        self.seen_events: list[Any] = []

    def seen(self, event: Any) -> None:
        self.seen_events.append(event)

    def want(self, partition: int, id: str, effect: Any, aggregate: Any, trace: dict[str, str]) -> None:
        self.wanted[id] = effect

    def release(self, partition: int) -> None:
        self.wanted.clear()


class Bench:
    """One partition of a real log, and the means to write to it and read it."""

    def __init__(self, services: Services, noted: Noted, home: int, noun: Noun = SESSION) -> None:
        self.services, self.noted, self.home, self.noun = services, noted, home, noun
        self.acknowledged: list[int] = []

    def new_id(self) -> str:
        return new_id(self.home)

    def processor(self) -> Processor:
        return Processor(self.noun, self.home, self.services)

    async def send(self, body: Any, session: str | None = None, **meta: Any) -> int:
        """Put a command on the topic. Its offset."""
        session = session or self.new_id()
        about: dict[str, Any] = {"id": derived_id(session, body), "tenant": "t", "actor": "a", "time": datetime.now(UTC)} | meta
        value = self.services.commands.encode(self.noun.command(meta=CommandMeta(aggregate_id=session, **about), body=body))
        return await self.send_bytes(value, session.encode())

    async def send_bytes(self, value: bytes, key: bytes = b"") -> int:
        placed = await self.services.side.send_and_wait(self.noun.commands, value, key, partition=self.home)
        return int(placed.offset)

    def commands(self, start: int = 0) -> list[Record]:
        log = self.services.log
        return list(log.read(self.noun.commands, self.home, start, log.bounds(self.noun.commands, self.home)[1]))

    async def deliver(self, processor: Processor, records: list[Record]) -> None:
        for record in records:
            await processor.deliver(record, lambda offset=record.offset: self.acknowledged.append(offset))  # type: ignore[misc]

    def events(self) -> list[Any]:
        """The valid events of the partition."""
        log, head, valid = self.services.log, Head(), []
        for record in log.read(self.noun.events, self.home, 0, log.bounds(self.noun.events, self.home)[1]):
            try:
                event = self.services.registry.decode(self.services.events, record.value)
            except Unreadable:
                head = head.pass_unreadable(record.offset)
                continue
            head, taken = head.take(event.meta, record.value or b"", record.offset)
            if taken:
                valid.append(event)
        return valid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Processor]:
        """A processor that has resumed and runs, until the end of the block."""
        processor = self.processor()
        task = asyncio.create_task(processor.run())
        try:
            yield processor
        finally:
            if not task.done():
                await processor.pause()
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def owned(self) -> AsyncIterator[Processor]:
        """The same, as Faust would have it: commands are delivered as they come."""
        async with self.running() as processor:
            feeding = asyncio.create_task(self._feed(processor))
            try:
                yield processor
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, processor: Processor) -> None:
        seen = 0
        while True:
            records = await asyncio.to_thread(self.commands, seen)
            await self.deliver(processor, records)
            seen += len(records)
            await asyncio.sleep(0.02)

    async def until(self, processor: Processor, true: Callable[[], bool]) -> None:
        """Wait, at most 20 s, for what the processor is to bring about."""
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)


def start(input: str | None = None) -> StartSession:
    return StartSession(model="echo", input=input, metadata={}, reply_seconds=30, idle_seconds=3600)


@pytest.fixture(scope="module")
def platform(module_platform: Settings) -> Settings:
    """A broker with the product's topics; each test takes a partition of its own."""
    settings = module_platform.model_copy(update={"kafka_cfg_num_partitions": PARTITIONS})
    registry = Registry(kafka.registry(settings))
    registry.register()
    list(topics.apply(settings, registry))
    return settings


@pytest.fixture(scope="module")
def homes() -> Iterator[int]:
    """The partitions of the module's broker, one for each test."""
    return iter(range(PARTITIONS))


@pytest.fixture
async def bench(platform: Settings, homes: Iterator[int]) -> AsyncIterator[Bench]:
    """A partition that nobody used before."""
    registry = Registry(kafka.registry(platform))
    producer = AIOKafkaProducer(**kafka.aiokafka(platform), acks="all", enable_idempotence=True, max_batch_size=1_000_000)
    side = AIOKafkaProducer(**kafka.aiokafka(platform), acks="all")
    await producer.start()
    await side.start()
    noted = Noted()
    commands: Codec[Any] = registry.codec(SESSION.commands, SESSION.command)
    events: Codec[Any] = registry.codec(SESSION.events, SESSION.event)
    log = Log(kafka.confluent(platform))
    services, home = Services(log, registry, commands, events, producer, side, noted, "test"), next(homes)
    await services.know(SESSION, home)
    while home not in await side.partitions_for(OUTPUT):
        await side.client.force_metadata_update()
    yield Bench(services, noted, home)
    await producer.stop()
    await side.stop()
