"""`soma gateway`: the REST API. Builds what routes need, and runs it."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway import credentials, openapi, problems, relation_engine, v1, versions
from gateway.audit import Audit
from gateway.budgets import Budgets
from gateway.console.door import Door
from gateway.credentials import SignIn
from gateway.engine import engine, usable
from gateway.health import Health
from gateway.identity import Identity
from gateway.keys import Keys
from gateway.layout import SETTLE, Layout
from gateway.link import Link
from gateway.middleware import Admission, BodyLimit, Measured
from gateway.models import Models
from gateway.named import Named
from gateway.pages import router as pages
from gateway.parts import Parts
from gateway.patience import Impatient
from gateway.policy import Policy
from gateway.rates import Rates
from gateway.reader import Reader
from gateway.recent import Recent
from gateway.records import COMMANDS, Records
from gateway.relations import Relations
from gateway.spool import Spool
from gateway.stream import Streams
from gateway.tail import Tail
from gateway.turn import Turns
from gateway.unshared import Unshared
from gateway.v1 import health
from gateway.waits import Waits
from gateway.watch import Watch
from gateway.writer import Writer
from ops import command_key, kafka, models, pepper, telemetry
from ops.artifacts import Artifacts
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from ops.witness import Witness
from projections import database
from projections.access import ACCESS, Access
from projections.agent import AGENTS, Agents
from projections.applied import Applied
from projections.nouns import NOUNS
from projections.queries import Queries, ReadModelDown
from projections.relation import COMMANDS as RELATION_COMMANDS
from projections.relation import RELATIONS
from projections.relation import Relations as Given
from projections.tool import TOOLS, Tools
from schemas.registry import Registry
from schemas.types.access import AccessCommand
from schemas.types.agent import AgentCommand
from schemas.types.relation import RelationCommand
from schemas.types.tool import ToolCommand

log = logging.getLogger("soma.gateway")
BATCH_BYTES = 256 << 10
TOOL_COMMANDS, AGENT_COMMANDS, ACCESS_COMMANDS = "soma.tool.commands", "soma.agent.commands", "soma.access.commands"
FAREWELL_SECONDS = 2.0
"""How long a gateway that must stop goes on to say why in /health."""
GRACE_SECONDS = 5


def create_app(settings: Settings, stop: Callable[[], None] = lambda: None, settle: timedelta = SETTLE) -> FastAPI:
    """The API. `stop` is called when the gateway must not go on (it has said why in the log and in /health)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(settings, stop, settle) as app.state.parts:
            yield

    app = FastAPIOffline(  # /docs from our own files: a browser behind a closed network shows it, and nobody else learns of it
        **openapi.ABOUT,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": "none"},  # its default sends the description to a foreign host
        telemetry={"metrics": False, "logs": False, "operation_spans": False},
    )
    app.add_middleware(BodyLimit, limit=settings.gateway_max_body_bytes, seconds=settings.gateway_body_seconds)
    app.add_middleware(Admission)
    app.add_middleware(Measured)
    app.add_middleware(Door, settings=settings)
    for kind in (problems.Problem, ReadModelDown, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, problems.answer)
    versions.include(app, v1.router)
    for router in (health.router, health.numbers, pages):
        app.include_router(router)
    openapi.complete(app)
    return app


@asynccontextmanager
async def _running(settings: Settings, stop: Callable[[], None], settle: timedelta) -> AsyncIterator[Parts]:
    """The parts of a gateway, at work. Starts whatever is down: /health says what is waited for."""
    arguments, url = kafka.aiokafka(settings), database.url(settings)
    async with AsyncExitStack() as stack:
        policies = await stack.enter_async_context(engine(settings))
        client = await stack.enter_async_context(httpx.AsyncClient())
        applied = await stack.enter_async_context(Applied(url))
        queries = Queries.connect(url)
        stack.push_async_callback(queries.close)
        records = Records(Registry(kafka.registry(settings)), settings.soma_origin, command_key.load(settings))
        link = Link(AIOKafkaProducer(**arguments, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES))
        stack.push_async_callback(link.close)
        consumer = AIOKafkaConsumer(**arguments, enable_auto_commit=False)
        recent, layout = Recent(), Layout(COMMANDS, settle)
        tail = Tail(consumer, link, records, queries, layout, recent)
        stack.push_async_callback(tail.close)
        reader = Reader(queries, applied, records, recent)
        waits = Waits(link, settings.gateway_max_in_flight, settings.gateway_tenant_max_in_flight)
        writer = Writer(link, tail, records, reader, waits, governed=settings.soma_tenant_budgets)
        tools = Tools(TOOLS, records.registry, arguments, "gateway")
        agents = Agents(AGENTS, records.registry, arguments, "gateway")
        issued = Access(ACCESS, records.registry, arguments, "gateway")
        access = Named(ACCESS_COMMANDS, AccessCommand, issued, link, waits, records)
        keys = Keys(access, Witness(issued, arguments), pepper.load(settings))
        given = Given(RELATIONS, records.registry, arguments, "gateway")
        related = Named(RELATION_COMMANDS, RelationCommand, given, link, waits, records)
        answering = await stack.enter_async_context(relation_engine.engine(settings, queries, applied))
        audit = Audit(records, link, Spool(settings.soma_data_dir, settings.gateway_audit_spool_bytes), settings.soma_audit_tenant)
        stack.push_async_callback(audit.close)
        sign_in, watch = SignIn(settings, client, keys), Watch(keys)
        identity = Identity(tail, layout, reader, recent)
        seconds, on = settings.gateway_relations_seconds, settings.gateway_relations == "on"
        relations = Relations(answering, related, {"tool": tools, "agent": agents}, reader, identity, on=on, seconds=seconds)
        parts = Parts(
            settings=settings,
            sign_in=sign_in,
            rates=Rates(settings.gateway_tenant_requests_per_minute, settings.gateway_caller_requests_per_minute),
            policy=Policy(policies, fail_open=settings.policy_fail_open, seconds=settings.policy_seconds),
            relations=relations,
            audit=audit,
            models=Models(models.load(settings.soma_models_file), client),
            identity=identity,
            writer=writer,
            reader=reader,
            streams=Streams(tail, reader, records, watch),
            turns=Turns(writer, tail, reader, waits),
            tools=Named(TOOL_COMMANDS, ToolCommand, tools, link, waits, records),
            agents=Named(AGENT_COMMANDS, AgentCommand, agents, link, waits, records),
            access=access,
            keys=keys,
            watch=watch,
            unshared=Unshared(relations, watch),
            artifacts=Artifacts(settings),
            budgets=Budgets(link, records, enabled=settings.soma_tenant_budgets),
            health=Health(link, tail, (tools, agents, issued, given), records, queries, sign_in, audit),
        )
        work = asyncio.create_task(_work(parts, link, tail, records, stop))
        stack.push_async_callback(_cancelled, work)
        yield parts


async def _work(parts: Parts, link: Link, tail: Tail, records: Records, stop: Callable[[], None]) -> None:
    """What a gateway does all the time. It ends only where a rule of the record cannot be kept: then the process has to end too."""
    running = [asyncio.create_task(parts.sign_in.run())]
    try:
        await records.load()
        named: tuple[Named[Any], ...] = (parts.tools, parts.agents, parts.access, parts.relations.given)
        await asyncio.gather(*(noun.load() for noun in named), parts.budgets.load())
        following = (
            *(noun.catalogue.run() for noun in named),
            parts.keys.witness.run(),
            parts.watch.run(),
            parts.audit.run(),
            parts.unshared.run(),
        )
        running += [asyncio.create_task(work) for work in (link.run(), tail.run(), *following, _know_epochs(parts))]
        await asyncio.gather(*running)
    except Exception as error:
        log.critical("stopping: %s", error, exc_info=error)
        parts.health.failure = f"{type(error).__name__}: {error}"
        await asyncio.sleep(FAREWELL_SECONDS)
        stop()
    finally:
        for task in running:
            await _cancelled(task)


async def _know_epochs(parts: Parts) -> None:
    """Which epochs positions are of, as soon as Kafka says."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(LogUnavailable),
        wait=wait_exponential_jitter(multiplier=0.2, max=2),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )
    kafka_log = Log(kafka.confluent(parts.settings))
    for noun in NOUNS.values():
        parts.reader.applied.epochs[noun.commands] = await retrying(asyncio.to_thread, kafka_log.epoch, noun.commands)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def run(settings: Settings) -> None:
    """`soma gateway`, until SIGINT or SIGTERM. Exit code 2 for settings that cannot be used, 1 where the record's rules cannot be kept."""
    telemetry.setup("gateway", settings)
    if wrong := _wrong(settings):
        print("The gateway cannot start:", *wrong, sep="\n  ", file=sys.stderr)
        raise SystemExit(2)
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = server.should_exit = True

    def stop(*_: object) -> None:
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, fail),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http=Impatient,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)  # uvicorn raises what it was stopped by again at its end: that is a clean stop here
    server.run()
    if failed or not server.started:
        raise SystemExit(1)


def _wrong(settings: Settings) -> list[str]:
    """What is missing or wrong in the settings, all of it."""
    checks: list[Callable[[], object]] = [
        lambda: kafka.aiokafka(settings),
        lambda: kafka.registry(settings),
        lambda: database.url(settings),
        lambda: models.load(settings.soma_models_file),
        lambda: pepper.load(settings),
        lambda: usable(settings),
        lambda: command_key.load(settings),
    ]
    wrong = list[str]()
    for check in checks:
        try:
            check()
        except (ValueError, database.NotConfigured) as error:
            wrong.append(str(error))
    return [*wrong, *credentials.wrong(settings)]
