"""A catalogue on a real broker: what it takes, what it tells, and what it survives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from ops import kafka, topics
from ops.embedded.kafka import Kafka
from ops.settings import Settings
from schemas.chain import ChainBroken
from schemas.ids import named_id
from schemas.registry import Registry
from schemas.types.common import Refused
from schemas.types.tool import RegisterTool, RetireTool
from streams.tool import TOOL, TOOLS, Tools
from tests.commands.test_tool import definition
from tests.history import History, produce


class Stage:
    """A broker with tool topics, and a worker's history to put there."""

    def __init__(self, kafka_: Kafka, registry: str) -> None:
        self.kafka = kafka_
        self.settings = Settings(kafka_bootstrap_servers=kafka_.bootstrap, schema_registry_url=registry, kafka_cfg_num_partitions=1)
        self.registry = Registry(kafka.registry(self.settings))
        self.registry.register()
        list(topics.apply(self.settings, self.registry))
        self.history = History(self.registry.codec(TOOL.events, TOOL.event), noun=TOOL)

    def send(self, name: str, body: Any, **meta: Any) -> list[Any]:
        """Let the worker take a command; its records are in the log then."""
        events = self.history.send(named_id(self.history.tenant, "tool", name), body, **meta)
        produce(self.kafka.bootstrap, self.history.take(), topic=TOOL.events)
        return events

    def register(self, name: str, description: str = "Adds.", **meta: Any) -> list[Any]:
        return self.send(name, RegisterTool(definition=definition(description, name)), **meta)

    def foul(self, value: bytes) -> None:
        """Put something into the log that no worker wrote."""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap})
        producer.produce(TOOL.events, value)
        assert producer.flush(10) == 0

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Tools]:
        tools = Tools(TOOLS, self.registry, kafka.aiokafka(self.settings), "test")
        task = asyncio.create_task(tools.run())
        try:
            async with asyncio.timeout(30):
                await tools.caught_up()
            yield tools
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def stage(own_kafka: Kafka, registry: str) -> Stage:
    return Stage(own_kafka, registry)


async def test_what_was_recorded_is_known_and_what_is_recorded_becomes_known(stage: Stage) -> None:
    stage.register("adder")
    stage.register("adder", "Adds two.")
    async with stage.following() as tools:
        # then what was there
        adder = tools.find("default", "adder")
        assert adder
        assert (adder.version, adder.at(1), adder.retired) == (2, definition(), False)
        assert (tools.find("other", "adder"), tools.find("default", "none"), tools.all("other")) == (None, None, [])
        # and what comes
        [event] = stage.send("adder", RetireTool())
        assert await tools.passed(0, event.meta.command.offset, 10)
        assert (known := tools.find("default", "adder"))
        assert known.retired
        assert not await tools.passed(0, event.meta.command.offset + 1, 0.01)
        assert tools.all("default") == [known]


async def test_who_waits_for_a_command_is_told_what_became_of_it(stage: Stage) -> None:
    async with stage.following() as tools:
        with tools.expecting("c1", None) as first, tools.expecting("c2", None) as second, tools.expecting("c1", bytes(16)) as other:
            await asyncio.to_thread(stage.register, "adder", command_id="c1")
            await asyncio.to_thread(stage.register, "adder", command_id="c2")
            async with asyncio.timeout(10):
                registered, refused = await first, await second
        assert registered.known == tools.find("default", "adder")
        [event] = refused.events
        assert isinstance(event.body, Refused)
        assert event.body.code == "unchanged"
        assert other.cancelled()


async def test_a_callers_command_is_remembered_and_its_repetition_is_not(stage: Stage) -> None:
    stage.register("adder", command_id="c1", key_digest=bytes(16))
    stage.register("adder", "Adds two.")
    stage.register("adder", command_id="c1", key_digest=bytes(16))
    async with stage.following() as tools:
        remembered = tools.outcome("c1")
        assert remembered
        assert remembered.known
        assert remembered.known.definition == definition()
        assert tools.outcome("c2") is None


async def test_void_and_unreadable_records_are_passed_over(stage: Stage) -> None:
    stage.register("adder")
    record = History(stage.registry.codec(TOOL.events, TOOL.event), noun=TOOL)
    record.send(named_id("default", "tool", "rogue"), RegisterTool(definition=definition(name="rogue")))
    stage.foul(record.take()[0].value)
    stage.foul(b"garbage")
    stage.register("later")
    async with stage.following() as tools:
        assert [tools.find("default", name) is not None for name in ("adder", "rogue", "later")] == [True, False, True]


async def test_a_chain_that_ends_stops_the_follower(stage: Stage) -> None:
    stage.register("adder")
    stage.history.send(named_id("default", "tool", "lost"), RegisterTool(definition=definition(name="lost")))
    stage.history.take()
    stage.foul(b"garbage in the place of what is lost")
    stage.register("later")
    tools = Tools(TOOLS, stage.registry, kafka.aiokafka(stage.settings), "test")
    with pytest.raises(ChainBroken, match=r"soma.tool.events/0: offset 1: the record cannot be read, and offset 2 builds on it"):
        async with asyncio.timeout(30):
            await tools.run()


async def test_it_goes_on_when_kafka_comes_back(stage: Stage) -> None:
    stage.register("adder")
    async with stage.following() as tools:
        # when the broker is away for a while
        stage.kafka.kill()
        await asyncio.sleep(1)
        assert tools.find("default", "adder")
        await stage.kafka.start()
        await asyncio.to_thread(stage.register, "later")
        # then what is recorded afterwards becomes known
        async with asyncio.timeout(30):
            while not tools.find("default", "later"):
                await asyncio.sleep(0.05)
    async with stage.following() as successor:
        assert successor.find("default", "later") == tools.find("default", "later")
