"""`soma worker`: Faust brings commands of every noun, a processor a partition turns them into events, effects run what they ask for."""

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

from commands.session import ModelCall
from ops import command_key, groups, kafka, models, seal, telemetry
from ops.log import Log, LogUnavailable, Record
from ops.settings import Settings
from schemas.chain import ChainBroken
from schemas.registry import NotRegistered, Registry
from schemas.types.session import OutputDelta
from streams.access import ACCESS
from streams.agent import AGENT
from streams.audit import AUDIT
from streams.budget import BUDGET, Answers, Draws
from streams.orchestrator import OUTPUT, Orchestrator
from streams.policy import POLICY
from streams.processor import Processor
from streams.relation import RELATION
from streams.services import Both, Effects, Halt, Nothing, Rounds, Services, codecs
from streams.session import SESSION
from streams.tool import TOOL, TOOLS, Tools
from streams.transport import Transport

log = logging.getLogger("soma.worker")
BATCH_BYTES = 1_000_000
"""A batch builder's size: above what a group can reach, below Kafka's default `max.message.bytes`."""
EPOCH_SECONDS = 5
NOUNS = (SESSION, TOOL, AGENT, ACCESS, POLICY, BUDGET, RELATION, AUDIT)


class Worker:
    """The processors of the partitions that this process owns. All of it can be lost: it is folded from the log again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processors: dict[TP, Processor] = {}
        self._tasks: dict[TP, asyncio.Task[None]] = {}
        self._services: dict[str, Services] = {}

    async def start(self) -> None:
        """Build what processors share, before partitions are assigned. Waits for a registry that does not answer.

        Raises NotRegistered, KafkaError, and where settings cannot be used.
        """
        arguments = kafka.aiokafka(self._settings)
        producer = AIOKafkaProducer(**arguments, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES)
        side = AIOKafkaProducer(**arguments, acks="all", linger_ms=0, max_request_size=BATCH_BYTES)
        await asyncio.gather(producer.start(), side.start())
        registry = Registry(kafka.registry(self._settings))
        output = await asyncio.to_thread(registry.codec, OUTPUT, OutputDelta)
        orchestrator = Orchestrator(models.load(self._settings.soma_models_file), output, self._follow(registry), seal.load(self._settings))
        draws, answers = Draws(), Answers()
        effects: dict[str, Effects] = {SESSION.name: Both(ModelCall, orchestrator, draws), BUDGET.name: answers}
        effects |= {noun.name: Nothing() for noun in (TOOL, AGENT, ACCESS, POLICY, RELATION, AUDIT)}
        keys = command_key.load(self._settings)
        reader, rounds = Log(kafka.confluent(self._settings)), Rounds()
        for noun in NOUNS:
            commands, events = await codecs(noun, registry)
            self._services[noun.commands] = Services(
                log=reader,
                registry=registry,
                commands=commands,
                events=events,
                producer=producer,
                side=side,
                effects=effects[noun.name],
                origin=self._settings.soma_origin,
                keys=keys,
                rounds=rounds,
            )
        orchestrator.start(self._services[SESSION.commands])
        draws.start(self._services[BUDGET.commands])
        answers.start(self._services[SESSION.commands])

    def _follow(self, registry: Registry) -> Tools:
        """What is known of tools, kept up to date for as long as this process lives."""
        tools = Tools(TOOLS, registry, kafka.aiokafka(self._settings), "worker")
        self._following = asyncio.create_task(tools.run(), name="follow tools")
        self._following.add_done_callback(_halt_on_error)
        return tools

    async def stop(self) -> None:
        """Let the appends that run finish, write snapshots, and close."""
        await self.revoke(set(self._processors))
        await asyncio.gather(*[processor.snapshots.save() for processor in self._processors.values()])
        for tp in self._processors:
            self._services[tp.topic].effects.release(tp.partition)
        self._following.cancel()
        shared = self._services[SESSION.commands]  # as any other's
        await asyncio.gather(shared.producer.stop(), shared.side.stop())

    async def assign(self, partitions: set[TP]) -> None:
        """Run a processor for each of these, and for none besides. One that was here before folds only what it missed."""
        for gone in set(self._processors) - partitions:
            self._services[gone.topic].effects.release(gone.partition)
            del self._processors[gone]
        for noun in NOUNS:
            own = [tp for tp in partitions if tp.topic == noun.commands]
            for tp in own:
                processor = self._processors.setdefault(tp, Processor(noun, tp.partition, self._services[tp.topic]))
                self._tasks[tp] = asyncio.create_task(processor.run(), name=f"{tp.topic}/{tp.partition}")
                self._tasks[tp].add_done_callback(_halt_on_error)
            log.info("own partitions %s of %s", sorted(tp.partition for tp in own), noun.commands)

    async def revoke(self, partitions: set[TP]) -> None:
        """Hold still: each of these may belong to another worker from now on."""
        held = partitions & set(self._tasks)
        await asyncio.gather(*[self._processors[tp].pause() for tp in held])
        for tp in held:
            self._tasks.pop(tp).cancel()

    async def deliver(self, event: EventT[Any]) -> None:
        """Hand a command to its partition; Faust is told once what it leads to is in the log."""
        message = event.message
        tp = TP(message.topic, message.partition)
        processor = self._processors.get(tp)
        if processor is None or tp not in self._tasks:
            event.ack()  # not ours any more: the next owner finds it by the log
            return
        headers = dict(message.headers or {})  # Faust gives a list or a dict
        time = int(message.timestamp * 1000)
        record = Record(message.partition, message.offset, message.key, message.value, list(headers.items()), time)
        await processor.deliver(record, event.ack)

    async def tick(self) -> None:
        """Deadlines and snapshots. What Kafka does not take now is said again a second later."""
        for tp, processor in list(self._processors.items()):
            if tp not in self._tasks:  # revoked, perhaps while another one's snapshot was written
                continue
            try:
                await processor.tick()
            except KafkaError as error:
                log.warning("%s/%d: %r: trying again in a second", tp.topic, tp.partition, error)

    async def check_epochs(self) -> None:
        """Raises Halt when a commands topic was created anew: its offsets mean other commands now (rule 5)."""
        for topic, services in self._services.items():
            try:
                epoch = await asyncio.to_thread(services.log.epoch, topic)
            except LogUnavailable as error:
                log.warning("%s Looking again in %d s.", error, EPOCH_SECONDS)
                return
            if any(processor.epoch not in ("", epoch) for tp, processor in self._processors.items() if tp.topic == topic):
                raise Halt(f"{topic} was created anew: starting again with its new epoch")


class App(faust.App):  # type: ignore[misc]
    """Faust's app, but for one warning at every rebalance."""

    logger = logging.getLogger("faust.app")

    def on_rebalance_return(self) -> None:
        """Nothing: Faust would tell its sensors. With no table to recover a rebalance has ended before, and Faust misses their state."""


def build(settings: Settings, worker: Worker) -> App:
    """The Faust app around a Worker that is started."""
    app = _app(settings)

    async def commands(stream: faust.Stream[bytes]) -> None:
        async for event in stream.noack().events():
            await worker.deliver(event)

    topics = {noun.commands for noun in NOUNS}
    for noun in NOUNS:
        app.agent(app.topic(noun.commands, key_serializer="raw", value_serializer="raw"), name=f"{noun.name} commands")(commands)

    @app.on_partitions_assigned.connect
    async def assigned(_: Any, assigned: set[TP], **kwargs: Any) -> None:
        await worker.assign({tp for tp in assigned if tp.topic in topics})

    @app.on_partitions_revoked.connect
    async def revoked(_: Any, revoked: set[TP], **kwargs: Any) -> None:
        await worker.revoke({tp for tp in revoked if tp.topic in topics})

    @app.on_before_shutdown.connect
    async def before_shutdown(_: Any, **kwargs: Any) -> None:
        await worker.stop()

    @app.timer(1.0)
    async def tick() -> None:
        await _or_halt(worker.tick())

    @app.timer(EPOCH_SECONDS)
    async def epoch() -> None:
        await _or_halt(worker.check_epochs())

    return app


def _app(settings: Settings) -> App:
    """What Faust is needed for: membership of the group, assignment, fetching. No tables, no leader, no web port."""
    app = App(
        groups.WORKER,
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
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def run(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Ends with exit code 1 when a rule of the record cannot be kept."""
    telemetry.setup("worker", settings)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, addr="127.0.0.1")
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(connect(settings))
    worker = Worker(settings)
    loop.run_until_complete(_or_halt(worker.start()))  # a member that is not ready for its partitions in time is put out of its group
    faust.Worker(build(settings, worker), loop=loop, override_logging=False, redirect_stdouts=False, quiet=True).execute_from_commandline()


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
    wrong_settings = isinstance(error, models.ModelsFileError | command_key.BadKey | seal.BadSeal)
    expected = wrong_settings or isinstance(error, Halt | ChainBroken | LogUnavailable | NotRegistered | KafkaError)
    log.critical("stopping: %s", error, exc_info=None if expected else error)
    logging.shutdown()
    os._exit(2 if wrong_settings else 1)
