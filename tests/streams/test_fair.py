"""Whose turn it is among calls: tenants and sessions in turn, tools within their bounds."""

import asyncio

import pytest

from streams.fair import Fair


class Line:
    """Calls that wait in the order in which they came, and those that had their turn."""

    def __init__(self, limit: int) -> None:
        self.fair, self.begun = Fair(limit), list[str]()
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def comes(self, name: str, tenant: str = "t", session: str = "s", tool: str = "x", bound: int = 100) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._call(name, tenant, session, tool, bound))
        await asyncio.sleep(0)

    async def ends(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def _call(self, name: str, tenant: str, session: str, tool: str, bound: int) -> None:
        async with self.fair.turn(tenant, session, tool, bound):
            self.begun.append(name)
            await self._ends[name].wait()


async def test_a_tenant_with_many_calls_does_not_keep_another_from_its_turn() -> None:
    line = Line(limit=1)
    for number in range(4):
        await line.comes(f"a{number}", tenant="a")
    await line.comes("b0", tenant="b")
    for name in ("a0", "a1", "b0"):
        if name in line.begun:
            await line.ends(name)
    assert line.begun.index("b0") <= 2


async def test_sessions_of_a_tenant_take_turns() -> None:
    line = Line(limit=1)
    await line.comes("first")
    for session in ("one", "one", "one", "two"):
        await line.comes(f"{session}{len(line.tasks)}", session=session)
    await line.ends("first")
    await line.ends(line.begun[-1])
    assert {name[:3] for name in line.begun[1:3]} == {"one", "two"}


async def test_a_tool_at_its_bound_is_passed_over_and_others_go_on() -> None:
    line = Line(limit=10)
    await line.comes("slow0", tool="slow", bound=1)
    await line.comes("slow1", session="other", tool="slow", bound=1)
    await line.comes("quick", session="third", tool="quick")
    assert (line.begun, line.fair.waiting) == (["slow0", "quick"], 1)
    await line.ends("slow0")
    assert line.begun[-1] == "slow1"


async def test_the_bound_of_a_tool_is_each_tenants_own() -> None:
    line = Line(limit=10)
    for tenant in ("a", "b"):
        await line.comes(tenant, tenant=tenant, bound=1)
    assert line.begun == ["a", "b"]


@pytest.mark.parametrize("victim", ["runs", "waits"])
async def test_a_call_that_is_given_up_leaves_its_place(victim: str) -> None:
    line = Line(limit=1)
    for name in ("runs", "waits", "last"):
        await line.comes(name)
    line.tasks[victim].cancel()
    await asyncio.gather(line.tasks[victim], return_exceptions=True)
    await asyncio.sleep(0)
    if victim == "waits":
        await line.ends("runs")
        assert line.begun == ["runs", "last"]
    else:
        assert line.begun == ["runs", "waits"]
