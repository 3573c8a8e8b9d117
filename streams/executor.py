"""`soma executor`: runs the tool calls that sessions wait for, each attempt recorded before it begins.

Its work comes from state: it folds the events of the partitions that its group gives it, as a worker does. So a lost executor's calls
are found again by whoever gets its partitions: those that may be repeated are begun again, the others are left to their deadline.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import start_http_server

from commands.call import Call, Queued, Running
from commands.situation import calls, seal_of, unknown_of
from ops import command_key, groups, kafka, metrics, seal, telemetry
from ops.artifacts import Artifacts
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from schemas.chain import ChainBroken
from schemas.codec import Unreadable
from schemas.registry import NotRegistered, Registry
from streams.astray import Astray, read
from streams.attempt import Attempts, Job
from streams.breaker import Breakers
from streams.inquiry import Inquiries
from streams.noun import Noun
from streams.partition import Partition
from streams.report import Report
from streams.services import Nothing, Services, codecs
from streams.session import SESSION
from streams.snapshots import load
from streams.tool import TOOL, TOOLS, Tools
from streams.tools.running import Runners, ways

log = logging.getLogger("soma.executor")
GROUP = groups.EXECUTOR
POLL_MS = 200
BATCH = 500
MOST_JOBS = 5_000
"""So many calls may be under way or waiting here: others stay in the states of their sessions until there is room.

Reading goes on meanwhile. The right to begin and the word of a cancel come by the same partitions: who paused those while full would wait
for ever for what makes room.
"""
LOOK_SECONDS = 3.0
"""How often executors that run calls of our partitions are looked for among the living."""


class Executor(ConsumerRebalanceListener):  # type: ignore[misc]
    """The partitions that this process has, and the calls that they ask for."""

    def __init__(
        self,
        id: str,
        consumer: AIOKafkaConsumer,
        services: Services,
        attempts: Attempts,
        inquiries: Inquiries,
        astray: Astray,
        admin: AdminClient,
    ) -> None:
        self._id, self._consumer, self._services, self._attempts = id, consumer, services, attempts
        self._inquiries, self._astray, self._admin = inquiries, astray, admin
        self._partitions: dict[int, Partition] = {}
        self._new: set[int] = set()
        self._others: dict[str, tuple[Job, Running]] = {}
        self._left: dict[str, Partition] = {}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """What runs here goes on to its end: its attempt is ours, whoever has the partition. So are the cancels that it waits for."""
        self._astray.follow(self._partitions.values())
        self._partitions.clear()
        self._others.clear()
        self._left.clear()
        self._new.clear()
        self._attempts.forget_unclaimed()
        self._inquiries.forget()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        self._new.update(place.partition for place in assigned)

    async def run(self) -> None:
        """Until cancelled. Raises ChainBroken, LogUnavailable."""
        self._consumer.subscribe([SESSION.events], listener=self)
        looking = asyncio.create_task(self._look())
        try:
            while True:
                await self._begin()
                for place, records in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)).items():
                    if place.partition in self._partitions:
                        partition = self._partitions[place.partition]
                        self._want(partition, await read(self._services, partition, records, self._attempts.seen))
                self._take_up()
                self._attempts.measure()
                if looking.done():
                    looking.result()
        finally:
            looking.cancel()
            self._astray.close()

    async def _begin(self) -> None:
        """Fold the partitions that are new here from their snapshot, and run what they wait for."""
        for number in sorted(self._new):
            partition = Partition(SESSION, number, self._services.events, self._services.origin)
            await asyncio.to_thread(self._fold, partition)
            if number not in self._new:
                continue
            self._new.discard(number)
            self._astray.leave(number)
            self._partitions[number] = partition
            self._want(partition, list(partition.rows))
            place = TopicPartition(SESSION.events, number)
            self._consumer.seek(place, partition.head.next_offset)
            self._consumer.resume(place)
            if not self._new:
                log.info("own partitions %s of %s", sorted(self._partitions), SESSION.events)

    def _fold(self, partition: Partition) -> None:
        """To the end of the log. A snapshot that does not account for the record is not believed."""
        if load(self._services.log, SESSION, partition):
            self._read_on(partition)
            if partition.whole():
                return
            fresh = Partition(SESSION, partition.number, partition.codec, partition.origin)
            partition.head, partition.rows, partition.applied = fresh.head, fresh.rows, None
        self._read_on(partition)

    def _read_on(self, partition: Partition) -> None:
        end = self._services.log.bounds(SESSION.events, partition.number)[1]
        for record in self._services.log.read(SESSION.events, partition.number, partition.head.next_offset, end):
            try:
                event = self._services.registry.decode(self._services.events, record.value)
            except Unreadable:
                partition.head = partition.head.pass_unreadable(record.offset)
                continue
            partition.take(event, record.value or b"", record.offset)
        partition.settle()

    def _want(self, partition: Partition, ids: Iterable[str]) -> None:
        """Bring what runs here in line with what these sessions wait for."""
        for id in ids:
            outline = partition.peek(id)
            self._inquiries.keep(partition.number, id, outline.tenant or "", unknown_of(outline.state), seal_of(outline.state))
            open_calls = calls(outline.state)
            if not open_calls and not self._attempts.knows(id):
                continue
            self._attempts.keep(id, {call.call for call in open_calls})
            for call in open_calls:
                if terms := outline.state.talk.terms.tool(call.tool):
                    job = Job(partition.number, id, outline.tenant or "", call.call, terms, outline.places, seal_of(outline.state))
                    self._want_call(partition, job, call)

    def _want_call(self, partition: Partition, job: Job, call: Call) -> None:
        self._others.pop(call.call, None)
        match call:
            case Queued() if self._attempts.count >= MOST_JOBS:
                self._left[job.session_id] = partition
            case Queued(attempt=attempt):
                self._attempts.want(job, attempt)
            case Running(executor=executor, attempt=attempt) if executor == self._id:
                self._attempts.started(job, attempt)
            case Running(attempt=attempt):
                self._attempts.lost(job, attempt)
                if job.tool.repeat_safe and attempt < job.tool.attempts:
                    self._others[call.call] = (job, call)

    async def _look(self) -> None:
        """Begin calls again whose executor is not among the living, where that is safe."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._others:
                continue
            try:
                living = await asyncio.to_thread(self._living)
            except LogUnavailable as error:
                log.warning("%s", error)
                continue
            for job, call in [each for each in self._others.values() if each[1].executor not in living]:
                log.warning("call %s: executor %s is lost: beginning again", call.call, call.executor)
                metrics.calls_lost.inc()
                self._others.pop(call.call, None)
                self._attempts.want(job, call.attempt + 1)

    def _living(self) -> set[str]:
        """The executors in the group, by their client ids. Blocks; raises LogUnavailable."""
        try:
            described = self._admin.describe_consumer_groups([GROUP], request_timeout=10)[GROUP].result(15)
        except Exception as error:
            raise LogUnavailable(f"Kafka does not say which executors live: {error}") from error
        return {member.client_id for member in described.members}

    def _take_up(self) -> None:
        """What was left in the states of sessions, the longest first, while there is room."""
        while self._left and self._attempts.count < MOST_JOBS:
            id = next(iter(self._left))
            self._want(self._left.pop(id), [id])


async def serve(settings: Settings) -> None:
    """The process, until cancelled. Raises ChainBroken, NotRegistered, LogUnavailable, KafkaError."""
    id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    arguments, registry = kafka.aiokafka(settings), Registry(kafka.registry(settings))
    side = AIOKafkaProducer(**arguments, acks="all", linger_ms=0)
    member = {"client_id": id, "group_id": GROUP, "session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000}
    consumer = AIOKafkaConsumer(**kafka.consumer(settings), **member, auto_offset_reset="earliest")
    reader, tools = Log(kafka.confluent(settings)), Tools(TOOLS, registry, arguments, "executor")
    services = await _services(settings, SESSION, reader, registry, side)
    for_tools = await _services(settings, TOOL, reader, registry, side)
    seals = seal.load(settings)
    runners, report = Runners(ways(settings)), Report(services, Artifacts(settings, seals), seals)
    attempts = Attempts(id, services, tools, Breakers(id, for_tools, tools), runners, report, seals)
    inquiries = Inquiries(tools, runners, report)
    astray, admin = Astray(id, services, attempts, arguments), AdminClient(kafka.confluent(settings))
    executor = Executor(id, consumer, services, attempts, inquiries, astray, admin)
    await asyncio.gather(side.start(), consumer.start())
    following = asyncio.create_task(tools.run())
    running = asyncio.create_task(executor.run())
    log.info("executor %s", id)
    try:
        await asyncio.gather(following, running)
    finally:
        for task in (following, running):
            task.cancel()
        await asyncio.gather(following, running, return_exceptions=True)
        await asyncio.gather(attempts.close(), inquiries.close())
        await runners.close()
        await asyncio.gather(consumer.stop(), side.stop())


async def _services(settings: Settings, noun: Noun, reader: Log, registry: Registry, side: AIOKafkaProducer) -> Services:
    """The ways by which an executor reads a noun and sends it commands. Events are for workers alone to append."""
    commands, events = await codecs(noun, registry)
    return Services(
        log=reader,
        registry=registry,
        commands=commands,
        events=events,
        producer=side,
        side=side,
        effects=Nothing(),
        origin=settings.soma_origin,
        keys=command_key.load(settings),
    )


async def _until_signal(settings: Settings) -> None:
    serving = asyncio.create_task(serve(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def run(settings: Settings) -> None:
    """`soma executor`. Ends the process with one message and exit code 1 when it must not go on."""
    telemetry.setup("executor", settings)
    if settings.executor_metrics_port:
        start_http_server(settings.executor_metrics_port, addr="127.0.0.1")
    try:
        uvloop.run(_until_signal(settings))
    except (ChainBroken, NotRegistered, LogUnavailable) as error:
        log.critical("%s", error)
        raise SystemExit(1) from None
    except (command_key.BadKey, seal.BadSeal) as error:
        log.critical("%s", error)
        raise SystemExit(2) from None
