"""Tools through the generic processor, on a real broker."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest import MonkeyPatch

from commands.tool import Closed, HalfOpen, Open, Retired
from schemas.ids import derived_id, named_id
from schemas.types.tool import RegisterTool, ReportFailure, RetireTool
from streams import aggregate
from streams.processor import Processor
from streams.services import Nothing
from streams.tool import TOOL
from tests.commands.test_tool import definition
from tests.streams.conftest import Bench


@pytest.fixture
async def tools(bench: Bench) -> AsyncIterator[Bench]:
    """The one partition of tools. Each test takes a name of its own."""
    registry = bench.services.registry
    commands, events = registry.codec(TOOL.commands, TOOL.command), registry.codec(TOOL.events, TOOL.event)
    yield Bench(replace(bench.services, commands=commands, events=events, effects=Nothing()), bench.noted, 0, TOOL)


async def send(tools: Bench, name: str, body: Any, number: int = 0, **meta: Any) -> None:
    await tools.send(body, named_id("t", "tool", name), id=derived_id(name, body, number), **meta)


def register(name: str, description: str = "Adds.") -> RegisterTool:
    return RegisterTool(definition=definition(description, name))


def of(tools: Bench, name: str) -> list[str]:
    id = named_id("t", "tool", name)
    return [type(event.body).__name__ for event in tools.events() if event.meta.aggregate_id == id]


def state(processor: Processor, name: str) -> Any:
    return processor.partition.peek(named_id("t", "tool", name)).state


def breaker(processor: Processor, name: str) -> Any:
    return getattr(state(processor, name), "breaker", None)


async def test_a_tool_is_registered_retired_and_had_again_from_its_snapshot(tools: Bench) -> None:
    await send(tools, "kept", register("kept"))
    await send(tools, "kept", RetireTool())
    async with tools.running() as processor:
        await tools.until(processor, lambda: isinstance(state(processor, "kept"), Retired))
        await processor.snapshots.save()
    await send(tools, "kept", register("kept", "Adds two."))
    async with tools.running() as successor:
        await tools.until(successor, lambda: getattr(state(successor, "kept"), "version", 0) == 2)
    assert of(tools, "kept") == ["ToolRegistered", "ToolRetired", "ToolRegistered"]


async def test_an_open_breaker_half_opens_by_the_clock(tools: Bench) -> None:
    # given a tool whose calls failed some time ago
    ago = datetime.now(UTC) - timedelta(minutes=1)
    await send(tools, "broken", register("broken"))
    for number in range(5):
        await send(tools, "broken", ReportFailure(call=f"c{number}", reason="no answer"), time=ago)
    async with tools.running() as processor:
        await tools.until(processor, lambda: isinstance(breaker(processor, "broken"), Open))
        # when the clock ticks
        await processor.tick()
        await tools.deliver(processor, tools.commands(processor.partition.expected(processor.epoch)))
        # then one may try
        await tools.until(processor, lambda: breaker(processor, "broken") == HalfOpen(1))


async def test_reports_without_end_leave_room_for_callers(tools: Bench, monkeypatch: MonkeyPatch) -> None:
    # given an aggregate that remembers little
    monkeypatch.setattr(aggregate, "MEMORY_LIMIT", 8)
    monkeypatch.setattr(aggregate, "REPORTS_LIMIT", 4)
    await send(tools, "busy", register("busy"), key_digest=bytes(16))
    # when more is reported than it can remember
    for number in range(12):
        await send(tools, "busy", ReportFailure(call=f"c{number}", reason="no answer"))
    await send(tools, "busy", register("busy", "Mended."), 1, key_digest=bytes(16))
    # then a caller is heard all the same, and the caller's first command is remembered
    await send(tools, "busy", register("busy"), key_digest=bytes(16))
    async with tools.running() as processor:
        await tools.until(processor, lambda: processor.partition.expected(processor.epoch) == len(tools.commands()))
        assert breaker(processor, "busy") == Closed()
    id = named_id("t", "tool", "busy")
    assert of(tools, "busy")[-2:] == ["ToolRegistered", "Refused"]
    assert [event for event in tools.events() if event.meta.aggregate_id == id][-1].body.code == "duplicate"
