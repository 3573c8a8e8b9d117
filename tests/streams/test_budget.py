"""A session's owner and the owner of its tenant's budget, on a real broker, with takeovers between draw and answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from commands import budget
from commands.budget import Bounded
from commands.session import ModelCall
from commands.situation import Drawing, Idle, Thinking
from schemas.ids import named_id
from schemas.types.budget import AllotmentDenied, Allotted, Allowance, SetBudget
from schemas.types.common import Usage
from schemas.types.session import PostMessage, RecordReply, TurnStopped
from streams.budget import BUDGET, Answers, Draws
from streams.processor import Processor
from streams.services import Both, Effects
from tests.streams.conftest import Bench, Noted, start

USAGE = Usage(input_tokens=5, output_tokens=5)


class Stage:
    """A session of a tenant of its own, and that tenant's budget. Each has an owner only while it is asked to have one."""

    def __init__(self, bench: Bench) -> None:
        registry = bench.services.registry
        commands, events = registry.codec(BUDGET.commands, BUDGET.command), registry.codec(BUDGET.events, BUDGET.event)
        self._sessions = bench
        self._budgets = Bench(replace(bench.services, commands=commands, events=events), Noted(), 0, BUDGET)
        self.tenant = f"tenant-{bench.home}"
        self.id, self.budget_id = bench.new_id(), named_id(self.tenant, budget.NAME, budget.NAME)

    async def set_budget(self, **limits: int) -> None:
        await self._budgets.send(SetBudget(limits=Allowance(**limits)), self.budget_id, tenant=self.tenant)

    async def tell(self, body: Any) -> None:
        await self._sessions.send(body, self.id, tenant=self.tenant)

    @asynccontextmanager
    async def session_owner(self) -> AsyncIterator[Callable[[], Any]]:
        """A worker that owns the session, and sends its draws. Gives its state."""
        draws = Draws()
        draws.start(self._budgets.services)
        async with self._owner(self._sessions, Both(ModelCall, self._sessions.noted, draws)) as processor:
            yield lambda: processor.partition.peek(self.id).state
        draws.release(self._sessions.home)

    @asynccontextmanager
    async def budget_owner(self, *, mute: bool = False) -> AsyncIterator[Callable[[], Any]]:
        """A worker that owns the budget, and answers; one that is mute dies before it does. Gives its state."""
        answers = Answers()
        answers.start(self._sessions.services)
        async with self._owner(self._budgets, Noted() if mute else answers) as processor:
            yield lambda: processor.partition.peek(self.budget_id).state

    @asynccontextmanager
    async def _owner(self, bench: Bench, effects: Effects) -> AsyncIterator[Processor]:
        own = Bench(replace(bench.services, effects=effects), bench.noted, bench.home, bench.noun)
        async with own.owned() as processor:
            yield processor

    def answers(self) -> list[Any]:
        """What the budget recorded for the session."""
        bodies = [event.body for event in self._budgets.events() if event.meta.aggregate_id == self.budget_id]
        return [body for body in bodies if isinstance(body, Allotted | AllotmentDenied)]

    def story(self) -> list[Any]:
        return [event.body for event in self._sessions.events() if event.meta.aggregate_id == self.id and event.meta.version]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
def stage(bench: Bench) -> Stage:
    return Stage(bench)


GOVERNED = changed(start("hello"), governed=True, max_tokens=50)


async def test_a_session_draws_is_answered_and_goes_on(stage: Stage) -> None:
    await stage.set_budget(turns=1)
    async with stage.session_owner() as session, stage.budget_owner() as owner:
        await stage.tell(GOVERNED)
        await until(lambda: isinstance(session(), Thinking))
        assert isinstance(owner(), Bounded)
        assert owner().pool.reserved.turns == 1
        # and the next turn is denied, for this one was the last
        await stage.tell(RecordReply(request=session().request, attempt="a", content="x", finish_reason="stop", usage=USAGE))
        await until(lambda: isinstance(session(), Idle))
        await stage.tell(PostMessage(input="more"))
        await until(lambda: isinstance(stage.story()[-1], TurnStopped))
        assert owner().pool.spent.turns == 1


async def test_a_draw_whose_answer_is_lost_with_its_owner_is_answered_by_the_next_one_and_counts_once(stage: Stage) -> None:
    await stage.set_budget(turns=1)
    async with stage.session_owner() as session:
        await stage.tell(GOVERNED)
        # given an owner of the budget that records its answer, and dies before it can send it
        async with stage.budget_owner(mute=True):
            await until(lambda: len(stage.answers()) == 1)
        assert isinstance(session(), Drawing)
        # when another one takes over, then it says the same again
        async with stage.budget_owner() as owner:
            await until(lambda: isinstance(session(), Thinking))
            assert owner().pool.reserved.turns == 1
    assert {answer.draw for answer in stage.answers()} == {1}


async def test_a_draw_is_sent_by_whoever_owns_the_session_next(stage: Stage) -> None:
    await stage.set_budget(turns=1)
    # given a session that draws, and whose owner dies before anybody answers
    async with stage.session_owner() as session:
        await stage.tell(GOVERNED)
        await until(lambda: isinstance(session(), Drawing))
    # when the budget's owner answers meanwhile, or only when it is asked again
    async with stage.budget_owner(), stage.session_owner() as session:
        await until(lambda: isinstance(session(), Thinking))
    assert stage.answers()[0].granted.turns == 1
