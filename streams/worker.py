"""`soma worker`: Faust brings commands, a processor a partition turns them into events, the orchestrator runs what they ask for."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

import faust
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP, EventT
from faust.types.auth import CredentialsT
from prometheus_client import start_http_server
from tenacity import before_sleep_log, retry, retry_if_exception_type, wait_exponential_jitter

from ops import kafka, models, telemetry
from ops.log import Log, LogUnavailable, Record
from ops.settings import Settings
from schemas.chain import ChainBroken
from schemas.registry import NotRegistered, Registry
from schemas.types.session import OutputDelta
from streams.orchestrator import OUTPUT, Orchestrator
from streams.processor import Processor
from streams.services import Halt, Services
from streams.session import SESSION

log = logging.getLogger("soma.worker")
BATCH_BYTES = 1_000_000
"""A batch builder's size: above what a group can reach, below Kafka's default `max.message.bytes`."""
EPOCH_SECONDS = 5


class Worker:
    """The processors of the partitions that this process owns. All of it can be lost: it is folded from the log again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processors: dict[int, Processor] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._services: asyncio.Future[Services] = asyncio.get_event_loop().create_future()

    async def start(self) -> None:
        """Build what processors share. Waits for a registry that does not answer; raises NotRegistered, KafkaError."""
        arguments = kafka.aiokafka(self._settings)
        producer = AIOKafkaProducer(**arguments, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES)
        side = AIOKafkaProducer(**arguments, acks="all", linger_ms=0, max_request_size=BATCH_BYTES)
        await asyncio.gather(producer.start(), side.start())
        registry = Registry(kafka.registry(self._settings))
        output = await asyncio.to_thread(registry.codec, OUTPUT, OutputDelta)
        orchestrator = Orchestrator(models.load(self._settings.soma_models_file), output)
        services = Services(
            log=Log(kafka.confluent(self._settings)),
            registry=registry,
            commands=await asyncio.to_thread(registry.codec, SESSION.commands, SESSION.command),
            events=await asyncio.to_thread(registry.codec, SESSION.events, SESSION.event),
            producer=producer,
            side=side,
            effects=orchestrator,
            origin=self._settings.soma_origin,
        )
        orchestrator.start(services)
        self._services.set_result(services)

    async def stop(self) -> None:
        """Let the appends that run finish, write snapshots, and close."""
        if not self._services.done():
            return
        services = await self._services
        await self.revoke(set(self._processors))
        await asyncio.gather(*[processor.snapshots.save() for processor in self._processors.values()])
        for partition in self._processors:
            services.effects.release(partition)
        await asyncio.gather(services.producer.stop(), services.side.stop())

    async def assign(self, partitions: set[int]) -> None:
        """Run a processor for each of these, and for none besides. One that was here before folds only what it missed."""
        services = await self._services
        for gone in set(self._processors) - partitions:
            services.effects.release(gone)
            del self._processors[gone]
        for number in partitions:
            processor = self._processors.setdefault(number, Processor(SESSION, number, services))
            self._tasks[number] = asyncio.create_task(processor.run(), name=f"{SESSION.commands}/{number}")
            self._tasks[number].add_done_callback(_halt_on_error)
        log.info("own partitions %s of %s", sorted(partitions), SESSION.commands)

    async def revoke(self, partitions: set[int]) -> None:
        """Hold still: each of these may belong to another worker from now on."""
        held = partitions & set(self._tasks)
        await asyncio.gather(*[self._processors[number].pause() for number in held])
        for number in held:
            self._tasks.pop(number).cancel()

    async def deliver(self, event: EventT[Any]) -> None:
        """Hand a command to its partition; Faust is told once what it leads to is in the log."""
        message = event.message
        processor = self._processors.get(message.partition)
        if processor is None or message.partition not in self._tasks:
            event.ack()  # not ours any more: the next owner finds it by the log
            return
        headers = dict(message.headers or {})  # Faust gives a list or a dict
        time = int(message.timestamp * 1000)
        record = Record(message.partition, message.offset, message.key, message.value, list(headers.items()), time)
        await processor.deliver(record, event.ack)

    async def tick(self) -> None:
        """Deadlines and snapshots. What Kafka does not take now is said again a second later."""
        for number, processor in list(self._processors.items()):
            if number not in self._tasks:  # revoked, perhaps while another one's snapshot was written
                continue
            try:
                await processor.tick()
            except KafkaError as error:
                log.warning("partition %d: %r: trying again in a second", number, error)

    async def check_epoch(self) -> None:
        """Raises Halt when the commands topic was created anew: its offsets mean other commands now (rule 5)."""
        services = await self._services
        try:
            epoch = await asyncio.to_thread(services.log.epoch, SESSION.commands)
        except LogUnavailable as error:
            log.warning("%s Looking again in %d s.", error, EPOCH_SECONDS)
            return
        if any(processor.epoch not in ("", epoch) for processor in self._processors.values()):
            raise Halt(f"{SESSION.commands} was created anew: starting again with its new epoch")


def build(settings: Settings) -> faust.App:
    """The Faust app around a Worker."""
    app = faust.App(
        "soma-worker",
        broker=_broker(settings),
        broker_credentials=_credentials(settings),
        broker_session_timeout=3.0,
        broker_heartbeat_interval=0.5,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=kafka.METADATA_MS,
        datadir=settings.soma_data_dir / "faust",  # stays empty: tables are not used
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,  # `revoke` waits for less: for the append that runs, not for all that was delivered
        store="memory://",
        web_enabled=False,
    )
    worker = Worker(settings)

    @app.agent(app.topic(SESSION.commands, key_serializer="raw", value_serializer="raw"))
    async def commands(stream: faust.Stream[bytes]) -> None:
        async for event in stream.noack().events():
            await worker.deliver(event)

    @app.on_partitions_assigned.connect
    async def assigned(_: Any, assigned: set[TP], **kwargs: Any) -> None:
        await worker.assign({tp.partition for tp in assigned if tp.topic == SESSION.commands})

    @app.on_partitions_revoked.connect
    async def revoked(_: Any, revoked: set[TP], **kwargs: Any) -> None:
        await worker.revoke({tp.partition for tp in revoked if tp.topic == SESSION.commands})

    @app.on_before_shutdown.connect
    async def before_shutdown(_: Any, **kwargs: Any) -> None:
        await worker.stop()

    @app.task
    async def start() -> None:
        await _or_halt(worker.start())

    @app.timer(1.0)
    async def tick() -> None:
        await _or_halt(worker.tick())

    @app.timer(EPOCH_SECONDS)
    async def epoch() -> None:
        await _or_halt(worker.check_epoch())

    return app


def run(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Ends with exit code 1 when a rule of the record cannot be kept."""
    telemetry.setup("worker", settings)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, addr="127.0.0.1")
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(connect(settings))
    faust.Worker(build(settings), loop=loop, override_logging=False, redirect_stdouts=False, quiet=True).execute_from_commandline()


@retry(
    retry=retry_if_exception_type(KafkaError),
    wait=wait_exponential_jitter(multiplier=0.2, max=2),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
async def connect(settings: Settings) -> None:
    """Wait until a broker can be reached: Faust itself gives up at the first that does not answer."""
    producer = AIOKafkaProducer(**kafka.aiokafka(settings))
    try:
        await producer.start()
    finally:
        await producer.stop()


def _broker(settings: Settings) -> list[str]:
    return [f"kafka://{server.strip()}" for server in kafka.bootstrap(settings).split(",")]


def _credentials(settings: Settings) -> CredentialsT | None:
    match settings.kafka_security_protocol:
        case "PLAINTEXT":
            return None
        case "SSL":
            return faust.SSLCredentials(context=kafka.tls(settings))
        case _:
            return faust.SASLCredentials(
                username=settings.kafka_sasl_username,
                password=settings.kafka_sasl_password,
                mechanism=settings.kafka_sasl_mechanism or "PLAIN",
                ssl_context=kafka.tls(settings),
            )


async def _or_halt(step: Coroutine[Any, Any, None]) -> None:
    """Faust swallows what its tasks raise; here nothing may go on after that."""
    try:
        await step
    except Exception as error:  # noqa: BLE001 - whatever it is, the process ends with it
        _halt(error)


def _halt_on_error(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        _halt(error)


def _halt(error: BaseException) -> None:
    expected = isinstance(error, Halt | ChainBroken | LogUnavailable | NotRegistered | models.ModelsFileError | KafkaError)
    log.critical("stopping: %s", error, exc_info=None if expected else error)
    logging.shutdown()
    os._exit(2 if isinstance(error, models.ModelsFileError) else 1)
