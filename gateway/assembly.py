"""A gateway's parts: put together, and at work."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway import relation_engine
from gateway.ask import Sender
from gateway.at_work import AtWork
from gateway.audit import Audit
from gateway.backtest import Backtests
from gateway.budgets import COMMANDS as BUDGET_COMMANDS
from gateway.budgets import Budgets
from gateway.credentials import SignIn
from gateway.editions import Editions
from gateway.engine import engine
from gateway.health import Health
from gateway.identity import Identity
from gateway.keys import Keys
from gateway.layout import Layout
from gateway.link import Link
from gateway.models import Models
from gateway.named import Named
from gateway.parts import Parts
from gateway.policy import Policy
from gateway.rates import Rates
from gateway.reader import Reader
from gateway.recent import Recent
from gateway.records import COMMANDS, Records
from gateway.relations import Relations
from gateway.sealing import Sealing
from gateway.spool import Spool
from gateway.stream import Streams
from gateway.tail import Tail
from gateway.turn import Turns
from gateway.unshared import Unshared
from gateway.waits import Waits
from gateway.watch import Watch
from gateway.writer import Room, Writer
from ops import command_key, kafka, models, pepper, seal
from ops.artifacts import Artifacts
from ops.follow import Catalogue
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from ops.witness import Witness
from projections import database
from projections.access import ACCESS, Key
from projections.agent import AGENTS, Agent
from projections.applied import Applied
from projections.nouns import NOUNS
from projections.policy import POLICIES, Shelf
from projections.queries import Queries
from projections.relation import RELATIONS, Known
from projections.tool import TOOLS, Tool
from schemas.registry import Registry
from schemas.types.access import AccessCommand
from schemas.types.agent import AgentCommand
from schemas.types.budget import BudgetCommand
from schemas.types.policy import PolicyCommand
from schemas.types.relation import RelationCommand
from schemas.types.tool import ToolCommand

log = logging.getLogger("soma.gateway")
BATCH_BYTES = 256 << 10
FAREWELL_SECONDS = 2.0
"""How long a gateway that must stop goes on to say why in /health."""
V = TypeVar("V")


class Nouns(NamedTuple):
    """What is followed in memory, and changed by commands."""

    tools: Named[Tool]
    agents: Named[Agent]
    access: Named[Key]
    policies: Named[Shelf]
    relations: Named[Known]


class Base(NamedTuple):
    """What the other parts stand on."""

    records: Records
    link: Link
    queries: Queries
    applied: Applied
    recent: Recent
    layout: Layout
    tail: Tail
    reader: Reader
    waits: Waits
    at_work: AtWork


@asynccontextmanager
async def running(settings: Settings, stop: Callable[[], None], settle: timedelta) -> AsyncIterator[Parts]:
    """The parts of a gateway, at work. Starts whatever is down: /health says what is waited for."""
    async with AsyncExitStack() as stack:
        base = await _base(settings, settle, stack)
        nouns = _nouns(settings, base)
        parts = await _parts(settings, base, nouns, stack)
        work = asyncio.create_task(_work(parts, base, nouns, stop))
        stack.push_async_callback(_cancelled, work)
        yield parts


async def _base(settings: Settings, settle: timedelta, stack: AsyncExitStack) -> Base:
    arguments, url = kafka.aiokafka(settings), database.url(settings)
    applied = await stack.enter_async_context(Applied(url))
    queries = Queries.connect(url)
    stack.push_async_callback(queries.close)
    records = Records(Registry(kafka.registry(settings)), settings.soma_origin, command_key.load(settings))
    link = Link(AIOKafkaProducer(**arguments, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES))
    stack.push_async_callback(link.close)
    recent, layout = Recent(), Layout(COMMANDS, settle)
    tail = Tail(AIOKafkaConsumer(**kafka.consumer(settings)), link, records, queries, layout, recent)
    stack.push_async_callback(tail.close)
    reader = Reader(queries, applied, records, recent, seal.load(settings))
    waits = Waits(link, settings.gateway_max_in_flight, settings.gateway_tenant_max_in_flight)
    at_work = AtWork(tail, reader, settings.gateway_tenant_max_sessions)
    stack.push_async_callback(at_work.close)
    return Base(records, link, queries, applied, recent, layout, tail, reader, waits, at_work)


def _nouns(settings: Settings, base: Base) -> Nouns:
    following = base.records.registry, kafka.aiokafka(settings), "gateway"

    def named(catalogue: Catalogue[V], noun: str, command: type[Any]) -> Named[V]:
        return Named(catalogue, Sender(noun, f"soma.{noun}.commands", command, base.link, base.records), base.waits)

    return Nouns(
        tools=named(Catalogue(TOOLS, *following), "tool", ToolCommand),
        agents=named(Catalogue(AGENTS, *following), "agent", AgentCommand),
        access=named(Catalogue(ACCESS, *following), "access", AccessCommand),
        policies=named(Catalogue(POLICIES, *following), "policy", PolicyCommand),
        relations=named(Catalogue(RELATIONS, *following), "relation", RelationCommand),
    )


async def _parts(settings: Settings, base: Base, nouns: Nouns, stack: AsyncExitStack) -> Parts:
    records, link, _, _, recent, layout, tail, reader, waits, at_work = base
    client = await stack.enter_async_context(httpx.AsyncClient())
    editions = Editions(await stack.enter_async_context(engine(settings)), nouns.policies.catalogue, settings)
    audit = Audit(records, link, Spool(settings.soma_data_dir, settings.gateway_audit_spool_bytes), settings.soma_audit_tenant)
    stack.push_async_callback(audit.close)
    identity = Identity(tail, layout, reader, recent)
    sealing = Sealing(reader.seals, identity, reader, recent)
    writer = Writer(link, tail, records, reader, Room(waits, at_work), sealing, governed=settings.soma_tenant_budgets)
    keys = Keys(nouns.access, Witness(nouns.access.catalogue, kafka.aiokafka(settings)), pepper.load(settings))
    sign_in, watch = SignIn(settings, client, keys), Watch(keys)
    budgets = Sender("budget", BUDGET_COMMANDS, BudgetCommand, link, records)
    relations = await _relations(settings, base, nouns, identity, stack)
    return Parts(
        settings=settings,
        sign_in=sign_in,
        rates=Rates(settings.gateway_tenant_requests_per_minute, settings.gateway_caller_requests_per_minute),
        policy=Policy(editions, fail_open=settings.policy_fail_open, seconds=settings.policy_seconds),
        policies=nouns.policies,
        editions=editions,
        backtests=Backtests(settings),
        relations=relations,
        unshared=Unshared(relations, watch),
        audit=audit,
        models=Models(models.load(settings.soma_models_file), client),
        identity=identity,
        writer=writer,
        reader=reader,
        streams=Streams(tail, reader, records, watch),
        turns=Turns(writer, tail, reader, waits),
        tools=nouns.tools,
        agents=nouns.agents,
        access=nouns.access,
        keys=keys,
        watch=watch,
        artifacts=Artifacts(settings, reader.seals),
        budgets=Budgets(budgets, reader, waits, enabled=settings.soma_tenant_budgets),
        health=Health(link, tail, [noun.catalogue for noun in nouns], records, reader, sign_in, audit),
    )


async def _relations(settings: Settings, base: Base, nouns: Nouns, identity: Identity, stack: AsyncExitStack) -> Relations:
    asked = await stack.enter_async_context(relation_engine.engine(settings, base.queries, base.applied))
    named: dict[str, Catalogue[Any]] = {"tool": nouns.tools.catalogue, "agent": nouns.agents.catalogue}
    on, seconds = settings.gateway_relations == "on", settings.gateway_relations_seconds
    return Relations(asked, nouns.relations, named, base.reader, identity, on=on, seconds=seconds)


async def _work(parts: Parts, base: Base, nouns: Nouns, stop: Callable[[], None]) -> None:
    """What a gateway does all the time. It ends only where a rule of the record cannot be kept: then the process has to end too."""
    running = [asyncio.create_task(parts.sign_in.run())]
    try:
        await base.records.load()
        await asyncio.gather(*(noun.load() for noun in nouns), parts.budgets.load())
        following = (
            *(noun.catalogue.run() for noun in nouns),
            parts.keys.witness.run(),
            parts.watch.run(),
            parts.unshared.run(),
            parts.audit.run(),
            parts.editions.run(),
        )
        running += [asyncio.create_task(work) for work in (base.link.run(), base.tail.run(), *following, _know_epochs(parts))]
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
