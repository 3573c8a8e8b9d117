"""An executor on a real broker: what it runs, in which order, how much of it at once, and what it leaves alone."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace as changed
from prometheus_client import REGISTRY
from pytest import MonkeyPatch

from commands.call import id_of
from commands.tool import Open
from ops import kafka
from ops.settings import Settings
from schemas.chain import digest
from schemas.ids import named_id
from schemas.types.common import Refused
from schemas.types.session import (
    ApproveCall,
    AskedCall,
    BeginCall,
    CancelSession,
    RecordReply,
    RecordResult,
    Tool,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
)
from schemas.types.tool import Definition, Http, RegisterTool, ReportFailure
from streams import attempt, executor
from streams.executor import GROUP, serve
from streams.services import Nothing
from streams.session import SESSION
from streams.tool import TOOL
from tests.streams.conftest import Bench, start
from tests.streams.tools.server import Journal, Request, says, serving

pytestmark = pytest.mark.timeout(180)
REQUEST = 3
"""The version of the ReplyRequested whose reply asks for calls."""


class Till:
    """A tool's server that keeps its callers waiting until it opens, and counts them."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.opens = journal, asyncio.Event()
        self.inside = self.most = 0
        journal.answers["/till"] = self._answer

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        with self._counted():
            await self.opens.wait()
        await says("paid")(request, writer)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            self.inside -= 1

    @property
    def served(self) -> list[str]:
        """The ids of the calls, in the order in which they came: their idempotency keys."""
        return [each.headers["idempotency-key"] for each in self.journal.requests]


class Stage:
    """One partition of sessions, the tools that they are given, and executors that come and go."""

    def __init__(self, bench: Bench, till: Till, settings: Settings) -> None:
        registry = bench.services.registry
        commands, events = registry.codec(TOOL.commands, TOOL.command), registry.codec(TOOL.events, TOOL.event)
        self.bench, self.till, self.settings = bench, till, settings
        self.tools = Bench(replace(bench.services, commands=commands, events=events, effects=Nothing()), bench.noted, 0, TOOL)

    def tenant(self, name: str = "t") -> str:
        """A tenant that no other test has, and so nobody's tools."""
        return f"{name}-{self.bench.home}"

    async def tool(self, name: str, tenant: str = "t", concurrency: int = 100, **terms: Any) -> Tool:
        """Register a tool that goes to the till, and give it as a session has it."""
        given = changed(
            Tool(name=name, version=1, repeat_safe=True, timeout_seconds=60, attempts=3, cost_micros=0, approval="never", tokens=1), **terms
        )
        definition = Definition(
            name=name,
            description="Pays.",
            parameters="{}",
            http=Http(method="POST", url=self.till.journal.url("/till")),
            repeat="safe" if given.repeat_safe else "never",
            timeout_seconds=given.timeout_seconds,
            attempts=given.attempts,
            approval=given.approval,
            concurrency=concurrency,
        )
        tenant = self.tenant(tenant)
        await self.tools.send(RegisterTool(definition=definition), named_id(tenant, "tool", name), tenant=tenant)
        return given

    async def session(self, *tools: Tool, tenant: str = "t", times: int = 1) -> list[str]:
        """A session whose model asks for each of the tools so many times, in one reply. The ids of the calls."""
        id, about = self.bench.new_id(), {"tenant": self.tenant(tenant)}
        wished = [_wish(tool.name, n=number) for number in range(times) for tool in tools]
        await self.bench.send(changed(start("pay"), tools=tools), id, **about)
        reply = RecordReply(request=REQUEST, attempt="a", content="", finish_reason="tool_calls", usage=None, calls=tuple(wished))
        await self.bench.send(reply, id, **about)
        return [id_of(id, REQUEST, index) for index in range(len(wished))]

    @asynccontextmanager
    async def owners(self) -> AsyncIterator[Callable[[str], Any]]:
        """Workers that own the sessions and the tools. Gives the state of a session."""
        async with self.bench.owned() as sessions, self.tools.owned() as tools:
            self._tools = tools
            yield lambda id: sessions.partition.peek(id).state

    def breaker(self, name: str) -> Any:
        state = self._tools.partition.peek(named_id(self.tenant(), "tool", name)).state
        return getattr(state, "breaker", None)

    @asynccontextmanager
    async def executor(self) -> AsyncIterator[None]:
        """An executor, as `soma executor` runs it, until the end of the block."""
        serving = asyncio.create_task(serve(self.settings))
        try:
            yield
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def recorded(self, *calls: str) -> None:
        """The calls are open, or were, for the record says so."""
        async with self.owners():
            await until(lambda: self.asked() >= set(calls))

    def asked(self) -> set[str]:
        """The calls that the record asks for."""
        return {body.call for body in self.told() if isinstance(body, ToolCallRequested)}

    def told(self) -> list[Any]:
        """What the sessions' events say."""
        return [event.body for event in self.bench.events()]

    def session_of(self, call: str) -> str:
        return next(str(event.meta.aggregate_id) for event in self.bench.events() if getattr(event.body, "call", None) == call)

    def begins(self, call: str) -> list[BeginCall]:
        """Who asked to begin it, in the order of the log."""
        bodies = [self.bench.services.commands.decode(record.value).body for record in self.bench.commands()]
        return [body for body in bodies if isinstance(body, BeginCall) and body.call == call]

    async def begun_by(self, executor: str, call: str) -> None:
        """Its first attempt is that executor's, by the record."""
        await self.bench.send(BeginCall(call=call, attempt=1, executor=executor), self.session_of(call), tenant=self.tenant())
        async with self.owners():
            await until(lambda: self.of(ToolCallStarted, call) != [])

    def of(self, kind: type[Any], call: str) -> list[Any]:
        return [body for body in self.told() if isinstance(body, kind) and body.call == call]

    def outcomes(self, *calls: str) -> dict[str, str]:
        """How those of them ended that have."""
        return {body.call: body.outcome for body in self.told() if isinstance(body, ToolCallFinished) and body.call in calls}

    async def ended(self, *calls: str) -> None:
        await until(lambda: len(self.outcomes(*calls)) == len(calls))


def _wish(tool: str, **arguments: Any) -> AskedCall:
    text = msgspec.json.encode(arguments).decode()
    return AskedCall(model_id="c", tool=tool, arguments=text, digest=digest(text.encode()))


def waiting() -> float:
    """Calls that wait for their turn, by the metric that operators see."""
    return REGISTRY.get_sample_value("soma_calls_waiting") or 0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.05)


@pytest.fixture
async def stage(bench: Bench, platform: Settings) -> AsyncIterator[Stage]:
    async with serving({}) as journal:
        yield Stage(bench, Till(journal), platform.model_copy(update={"soma_tool_private_hosts": ("127.0.0.1",)}))


async def test_tenants_and_their_sessions_take_turns(stage: Stage, monkeypatch: MonkeyPatch) -> None:
    # given an executor that runs one call at a time, a session with many, and after it another one and another tenant
    monkeypatch.setattr(attempt, "AT_ONCE", 1)
    pay, theirs = await stage.tool("pay"), await stage.tool("pay", tenant="other")
    many, one, others = await stage.session(pay, times=8), await stage.session(pay), await stage.session(theirs, tenant="other")
    async with stage.owners(), stage.executor():
        await until(lambda: waiting() == len(many) + 1)  # one of the ten is inside
        # when it goes on
        stage.till.opens.set()
        await stage.ended(*many, *one, *others)
    # then nobody waited for all that came before
    turns = stage.till.served
    assert stage.till.most == 1
    assert max(turns.index(one[0]), turns.index(others[0])) <= 3


async def test_a_tool_is_not_asked_more_at_once_than_it_bears_and_others_pass_it(stage: Stage) -> None:
    # given
    slow, quick = await stage.tool("slow", concurrency=2), await stage.tool("quick")
    calls = await stage.session(slow, times=6)
    async with stage.owners(), stage.executor():
        await until(lambda: stage.till.inside == 2 and waiting() == 4)
        # when
        [other] = await stage.session(quick)
        # then
        await until(lambda: other in stage.till.served)
        assert (stage.till.most, waiting()) == (3, 4)
        stage.till.opens.set()
        await stage.ended(*calls, other)
    assert sorted(stage.till.served) == sorted([*calls, other])


async def test_what_is_too_much_at_once_is_left_in_the_states_and_comes_to_its_turn(stage: Stage, monkeypatch: MonkeyPatch) -> None:
    # given an executor that takes three calls at once, and more than that on record
    monkeypatch.setattr(executor, "MOST_JOBS", 3)
    pay = await stage.tool("pay")
    sessions = [await stage.session(pay, times=2) for _ in range(4)]
    await stage.recorded(*itertools.chain(*sessions))
    async with stage.owners(), stage.executor():
        # when it begins, then it takes no more than that
        await until(lambda: stage.till.inside == 3)
        [later] = await stage.session(pay)
        await until(lambda: later in stage.asked())
        assert (stage.till.most, waiting()) == (3, 0)
        # and a cancel reaches it all the same
        gone = next(session for session in sessions if stage.till.served[0] in session)
        await stage.bench.send(CancelSession(), stage.session_of(gone[0]), tenant=stage.tenant())
        await asyncio.wait_for(stage.till.journal.gone.wait(), 30)
        # when there is room again, then everything else is done, once
        stage.till.opens.set()
        left = [call for session in [*sessions, [later]] if session != gone for call in session]
        await stage.ended(*left)
    assert {stage.till.served.count(call) for call in left} == {1}


async def test_calls_are_found_by_state_whatever_offset_was_committed(stage: Stage, monkeypatch: MonkeyPatch) -> None:
    # given calls that another executor has begun and one that nobody has, and the end of the log committed for the group
    monkeypatch.setattr(executor, "LOOK_SECONDS", 0.2)
    safe, never = await stage.tool("safe"), await stage.tool("never", repeat_safe=False)
    [queued], [lost, risky] = await stage.session(safe), await stage.session(safe, never)
    await stage.recorded(queued, lost, risky)
    for call in (lost, risky):
        await stage.begun_by("gone", call)
    await committed_to_the_end(stage)
    stage.till.opens.set()
    # when an executor comes
    async with stage.owners(), stage.executor():
        # then it begins anew what may be, and does what nobody had begun
        await stage.ended(queued, lost)
        # and leaves the other one to its deadline
        assert [each.executor for each in stage.of(ToolCallStarted, risky)] == ["gone"]
    assert [each.attempt for each in stage.of(ToolCallStarted, lost)] == [1, 2]
    assert sorted(stage.till.served) == sorted([queued, lost])


async def test_a_claim_that_another_executor_won_is_not_run(stage: Stage) -> None:
    # given a call that nobody has begun, and a worker that is away
    pay = await stage.tool("pay", repeat_safe=False)
    [call] = await stage.session(pay)
    await stage.recorded(call)
    session = stage.session_of(call)
    # when another executor asks for it first, and this one after it
    await stage.bench.send(BeginCall(call=call, attempt=1, executor="other"), session, tenant=stage.tenant())
    async with stage.executor():
        await until(lambda: len(stage.begins(call)) == 2)
        async with stage.owners():
            # then the record gives it to the first one
            await until(lambda: any(isinstance(body, Refused) and body.code == "taken" for body in stage.told()))
            # and whatever comes of it is the other's to say
            paid = RecordResult(call=call, attempt=1, outcome="ok", content="paid", digest=digest(b"paid"), bytes=4)
            await stage.bench.send(paid, session, tenant=stage.tenant())
            await stage.ended(call)
    assert [each.executor for each in stage.of(ToolCallStarted, call)] == ["other"]
    assert stage.till.served == []


async def test_arguments_that_an_approval_changed_are_run_by_who_saw_neither(stage: Stage) -> None:
    # given a call that was approved with other arguments while no executor was there
    pay = await stage.tool("pay", approval="always")
    [call] = await stage.session(pay)
    await stage.recorded(call)
    shown, other = digest(b'{"n":0}'), '{"n":7}'
    approval = ApproveCall(call=call, digest=shown, arguments=other, arguments_digest=digest(other.encode()))
    await stage.bench.send(approval, stage.session_of(call), tenant=stage.tenant())
    stage.till.opens.set()
    # when one comes
    async with stage.owners(), stage.executor():
        await stage.ended(call)
    # then
    assert [each.body.decode() for each in stage.till.journal.requests] == [other]


async def test_an_open_breaker_answers_at_once_and_the_tool_is_not_asked(stage: Stage) -> None:
    # given a tool that failed five times
    pay = await stage.tool("pay")
    for number in range(5):
        id, failure = named_id(stage.tenant(), "tool", "pay"), ReportFailure(call=f"c{number}", reason="no answer")
        await stage.tools.send(failure, id, tenant=stage.tenant())
    async with stage.owners():
        await until(lambda: isinstance(stage.breaker("pay"), Open))
        # when it is called
        [call] = await stage.session(pay)
        async with stage.executor():
            await stage.ended(call)
    # then the call has begun and ended by the record, and nobody asked the tool
    [finished] = stage.of(ToolCallFinished, call)
    assert (finished.outcome, "does not work at present" in finished.content) == ("error", True)
    assert stage.till.served == []


async def committed_to_the_end(stage: Stage) -> None:
    """As a lost executor could have left it that commits what it has read."""
    place = TopicPartition(SESSION.events, stage.bench.home)
    consumer = AIOKafkaConsumer(**kafka.aiokafka(stage.settings), group_id=GROUP, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([place])
        end = stage.bench.services.log.bounds(place.topic, place.partition)[1]
        await consumer.commit({place: OffsetAndMetadata(end, "")})
    finally:
        await consumer.stop()


async def test_a_backlog_that_is_larger_than_what_an_executor_takes_is_worked_off(stage: Stage, monkeypatch: MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(executor, "MOST_JOBS", 3)
    monkeypatch.setattr(attempt, "AT_ONCE", 2)
    calls = await stage.session(await stage.tool("pay"), times=8)
    await stage.recorded(*calls)
    stage.till.opens.set()
    # when
    async with stage.owners(), stage.executor():
        await stage.ended(*calls)
    # then
    assert sorted(stage.till.served) == sorted(calls)
