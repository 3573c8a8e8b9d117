"""A gateway over real servers, with a projector, and a worker that a test can hold back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from commands.session import ModelCall, outstanding, result_id
from gateway.app import create_app
from gateway.layout import SETTLE
from gateway.patience import Impatient
from ops import kafka, topics
from ops.log import Log
from ops.settings import Settings
from projections import database, projector
from schemas.codec import Codec
from schemas.ids import new_id
from schemas.registry import Registry
from schemas.types.common import CommandMeta, Position, Usage
from schemas.types.session import MessagePosted, OutputDelta, RecordReply, ReplyRequested, SessionCommand, SessionEvent
from streams.partition import Incoming, Outgoing, Partition
from streams.session import SESSION
from tests.faults.cluster import Process, environment
from tests.faults.cluster import until as until_true

OUTPUT = "soma.session.output"
PARTITIONS = 2


class Worker:
    """Decides as the real one does, in one process and without taking over from another. `deciding` and `replying` can be cleared."""

    def __init__(self, settings: Settings) -> None:
        registry = Registry(kafka.registry(settings))
        self._arguments = kafka.aiokafka(settings)
        self._epoch = Log(kafka.confluent(settings)).epoch(SESSION.commands)
        self._registry = registry
        self._commands: Codec[SessionCommand] = registry.codec(SESSION.commands, SessionCommand)
        self._events: Codec[SessionEvent] = registry.codec(SESSION.events, SessionEvent)
        self._output: Codec[OutputDelta] = registry.codec(OUTPUT, OutputDelta)
        self._partitions: dict[int, Partition] = {}
        self._said: dict[str, str] = {}
        self.deciding, self.replying = asyncio.Event(), asyncio.Event()
        self.deciding.set()
        self.replying.set()

    async def run(self) -> None:
        self._producer = AIOKafkaProducer(**self._arguments, acks="all")
        consumer = AIOKafkaConsumer(**self._arguments, enable_auto_commit=False, auto_offset_reset="earliest")
        await asyncio.gather(self._producer.start(), consumer.start())
        replies = set[asyncio.Task[None]]()
        try:
            while True:
                await self._assign(consumer)
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        await self.deciding.wait()
                        for event in await self._decide(record):
                            if isinstance(event.body, MessagePosted):
                                self._said[event.meta.aggregate_id] = str(event.body.content)
                            if isinstance(event.body, ReplyRequested):
                                replies.add(asyncio.create_task(self._reply(event)))
        finally:
            for task in replies:
                task.cancel()
            await asyncio.gather(consumer.stop(), self._producer.stop())

    async def deltas(self, session_id: str, texts: list[str], *, request: int, attempt: str = "a1", first: int = 0) -> None:
        """Write pieces of a reply."""
        partition = int(session_id[-3:], 16) % 1024
        for index, text in enumerate(texts, first):
            delta = OutputDelta(session_id=session_id, request=request, attempt=attempt, index=index, text=text)
            await self._producer.send_and_wait(OUTPUT, self._output.encode(delta), session_id.encode(), partition)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        there = await self._producer.partitions_for(SESSION.commands)
        if len(there) != len(self._partitions):
            for number in there - self._partitions.keys():
                self._partitions[number] = Partition(SESSION, number, self._events, "test")
            consumer.assign([TopicPartition(SESSION.commands, number) for number in there])
            for number, partition in self._partitions.items():
                consumer.seek(TopicPartition(SESSION.commands, number), partition.expected(self._epoch))

    async def _decide(self, record: ConsumerRecord) -> list[Any]:
        partition = self._partitions[record.partition]
        position = Position(epoch=self._epoch, partition=record.partition, offset=record.offset)
        command = self._registry.decode(self._commands, record.value)
        decided = partition.decide(Incoming(position, command, record.key, len(record.value)))
        partition.settle()
        await self.append(record.partition, decided)
        return [outgoing.event for outgoing in decided]

    async def append(self, partition: int, records: list[Outgoing]) -> None:
        """Put records at the end of an events partition, as one batch."""
        batch = self._producer.create_batch()
        for outgoing in records:
            assert batch.append(key=outgoing.key, value=outgoing.value, timestamp=None, headers=outgoing.headers)
        batch.close()
        await (await self._producer.send_batch(batch, SESSION.events, partition=partition))

    async def _reply(self, event: SessionEvent) -> None:
        await self.replying.wait()
        meta = event.meta
        call = outstanding(self._partitions[meta.command.partition].peek(meta.aggregate_id).state)
        if not isinstance(call, ModelCall):
            return
        reply = RecordReply(
            request=call.request,
            attempt=new_id(0),
            content=f"echo: {self._said[meta.aggregate_id]}",
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=2),
        )
        id = result_id(meta.aggregate_id, call.request)
        about = CommandMeta(id=id, aggregate_id=meta.aggregate_id, tenant=meta.tenant, actor="platform", time=datetime.now(UTC))
        value = self._commands.encode(SessionCommand(meta=about, body=reply))
        await self._producer.send_and_wait(SESSION.commands, value, meta.aggregate_id.encode(), meta.command.partition)


class Gateway:
    """A gateway that serves, and a client of it."""

    def __init__(self, settings: Settings, settle: timedelta = SETTLE) -> None:
        self.stopped = asyncio.Event()
        self.app = create_app(settings, self.stopped.set, settle)
        config = uvicorn.Config(self.app, port=settings.gateway_port, http=Impatient, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}", timeout=20)

    async def __aenter__(self) -> "Gateway":
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            assert not self._serving.done(), "the gateway did not start"
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.aclose()
        self._server.should_exit = True
        await self._serving

    async def until_healthy(self) -> None:
        async with asyncio.timeout(20):
            while (await self.client.get("/health")).json()["status"] != "ok":
                await asyncio.sleep(0.05)


class Platform:
    """All of it. `projecting` can be stopped and started."""

    def __init__(self, settings: Settings, gateway: Gateway, worker: Worker, projecting: "Projecting") -> None:
        self.settings, self.gateway, self.worker, self.projecting = settings, gateway, worker, projecting
        self.client = gateway.client


class Projecting:
    """A projector that can be stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(projector.serve(self._settings))

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._task = None

    async def abandon(self) -> None:
        """Of a projector that had to stop by itself."""
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None


def prepare(settings: Settings) -> None:
    """Topics, schemas, tables."""
    registry = Registry(kafka.registry(settings))
    registry.register()
    for _ in topics.apply(settings, registry):
        pass
    assert settings.database_url
    database.migrate(settings.database_url)


@asynccontextmanager
async def running(settings: Settings, *, settle: timedelta = SETTLE) -> AsyncIterator[Platform]:
    """A platform that is ready, over servers that are prepared."""
    worker, projecting = Worker(settings), Projecting(settings)
    async with AsyncExitStack() as stack:
        working = asyncio.create_task(worker.run())
        stack.push_async_callback(_ended, working)
        projecting.start()
        stack.push_async_callback(projecting.stop)
        gateway = await stack.enter_async_context(Gateway(settings, settle))
        await gateway.until_healthy()
        yield Platform(settings, gateway, worker, projecting)


@asynccontextmanager
async def deciding(settings: Settings, log: Path) -> AsyncIterator[Process]:
    """`soma worker`, which decides what is asked of every noun: the audit is the last that it says it owns."""
    worker = Process("worker", environment(settings), log)
    await worker.start()
    await until_true(lambda: "of soma.audit.commands" in worker.written(), "the worker owns the audit")
    yield worker
    await worker.stop()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway that is well, and a projector beside it."""
    projecting = Projecting(settings)
    projecting.start()
    async with Gateway(settings) as gateway:
        await gateway.until_healthy()
        yield gateway
    await projecting.stop()


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(client: httpx.AsyncClient, part: str, status: str, who: dict[str, str] | None = None) -> str:
    """What /health says of the part, once it is so: in detail, if to somebody."""
    async with asyncio.timeout(30):
        while (found := (await client.get("/health", headers=who)).json()["parts"][part])["status"] != status:
            await asyncio.sleep(0.05)
        return str(found["detail"])


async def healthy(client: httpx.AsyncClient) -> None:
    """Once a gateway of another process serves, and is well itself."""
    async with asyncio.timeout(90):
        while True:
            with suppress(httpx.TransportError):
                if (await client.get("/health")).json()["parts"]["gateway"]["status"] == "ok":
                    return
            await asyncio.sleep(0.2)


async def last_event(platform: Platform, session_id: str) -> tuple[Codec[SessionEvent], SessionEvent]:
    """The session's newest event, and the codec to write another."""
    reader = platform.gateway.app.state.parts.reader
    codec: Codec[SessionEvent] = reader._records._events
    async with asyncio.timeout(10):
        while not (page := await reader.page(session_id, "default", -1, 10)):
            await asyncio.sleep(0.02)
    return codec, page[-1].event
