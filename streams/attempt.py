"""One attempt of a tool call: claimed by a recorded `ToolCallStarted`, run, and its outcome recorded. Nothing is run without the claim."""

import asyncio
import logging
import time
from typing import Any

import msgspec
from cachetools import LRUCache
from msgspec import Struct
from tenacity import RetryCallState, Retrying, wait_exponential_jitter

from ops import failpoints, metrics
from ops.seal import Seals
from schemas.types.common import Sealed
from schemas.types.session import Tool, ToolCallApproved, ToolCallRequested
from schemas.types.tool import Definition
from streams.breaker import Breakers
from streams.fair import Fair
from streams.report import About, Report
from streams.services import Services
from streams.session import SESSION
from streams.tool import Tools, given
from streams.tools.running import Call, Result, Runners, failed

log = logging.getLogger("soma.executor")
AT_ONCE = 256
"""Calls that one executor runs at once."""
ARGUMENTS = 20_000


class Job(Struct, frozen=True):
    """A call that a session waits for, and where it is told of."""

    partition: int
    session_id: str
    tenant: str
    call: str
    tool: Tool
    places: list[int]
    seal: str | None

    def about(self, attempt: int) -> About:
        """One attempt at it, for its report."""
        safe, cost = self.tool.repeat_safe, self.tool.cost_micros
        return About(self.partition, self.session_id, self.tenant, self.call, attempt, safe, cost, self.seal)


class _Claim(Struct):
    """An attempt of ours. `begun` is set once its ToolCallStarted is in the record."""

    partition: int
    attempt: int
    task: "asyncio.Task[None]"
    begun: asyncio.Event


class Attempts:
    """The attempts of one executor. A call has at most one here at a time."""

    def __init__(
        self, id: str, services: Services, tools: Tools, breakers: Breakers, runners: Runners, report: Report, seals: Seals
    ) -> None:
        self._id, self._services, self._tools, self._seals = id, services, tools, seals
        self._breakers, self._runners, self._report = breakers, runners, report
        self._fair = Fair(AT_ONCE)
        self._claims: dict[str, _Claim] = {}
        self._sessions: dict[str, set[str]] = {}
        self._arguments: LRUCache[str, str | Sealed] = LRUCache(ARGUMENTS)

    @property
    def count(self) -> int:
        """How many are waiting or under way."""
        return len(self._claims)

    def runs_in(self, partition: int) -> bool:
        """Whether an attempt of a session of this partition has begun here and is not over."""
        return any(claim.partition == partition and claim.begun.is_set() for claim in self._claims.values())

    def measure(self) -> None:
        """Say in the metrics how things stand."""
        metrics.calls_waiting.set(self._fair.waiting)
        self._breakers.measure()

    def knows(self, session_id: str) -> bool:
        """Whether a call of the session is under way here."""
        return session_id in self._sessions

    def seen(self, event: Any) -> None:
        """Keep the arguments of calls that may come here soon."""
        body = event.body
        if isinstance(body, ToolCallRequested | ToolCallApproved) and body.arguments is not None:
            self._arguments[body.call] = body.arguments

    def keep(self, session_id: str, open_calls: set[str]) -> None:
        """These calls of the session are open: what else runs for it is stopped (a cancel, a deadline, an end by somebody else)."""
        for id in self._sessions.get(session_id, set()) - open_calls:
            self._claims[id].task.cancel()

    def want(self, job: Job, attempt: int) -> None:
        """Make this attempt, unless it is under way here."""
        claim = self._claims.get(job.call)
        if claim and claim.attempt >= attempt:
            return
        if claim:
            claim.task.cancel()
        begun = asyncio.Event()
        task = asyncio.create_task(self._attempt(job, attempt, begun), name=f"call {job.call} attempt {attempt}")
        self._claims[job.call] = _Claim(job.partition, attempt, task, begun)
        self._sessions.setdefault(job.session_id, set()).add(job.call)
        task.add_done_callback(lambda done: self._done(job, done))

    def started(self, job: Job, attempt: int) -> None:
        """This attempt is ours by the record."""
        claim = self._claims.get(job.call)
        if claim and claim.attempt == attempt:
            claim.begun.set()

    def lost(self, job: Job, attempt: int) -> None:
        """This attempt is somebody else's by the record: what waited here to make it is over."""
        claim = self._claims.get(job.call)
        if claim and claim.attempt <= attempt:
            claim.task.cancel()

    def forget_unclaimed(self) -> None:
        """Whoever reads these partitions now makes the attempts that were not begun here."""
        for claim in self._claims.values():
            if not claim.begun.is_set():
                claim.task.cancel()

    async def close(self) -> None:
        """Interrupt what runs: its attempts are recorded as begun, and the ledger says what becomes of them."""
        tasks = [claim.task for claim in self._claims.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, job: Job, task: "asyncio.Task[None]") -> None:
        claim = self._claims.get(job.call)
        if claim and claim.task is task:
            del self._claims[job.call]
            open_calls = self._sessions.get(job.session_id, set())
            open_calls.discard(job.call)
            if not open_calls:
                self._sessions.pop(job.session_id, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s ended by a defect: its deadline will end it", task.get_name(), exc_info=error)

    async def _attempt(self, job: Job, attempt: int, begun: asyncio.Event) -> None:
        definition = (await given(self._tools, job.tenant, [(job.tool.name, job.tool.version)]))[job.tool.name]
        await asyncio.sleep(_pause(attempt))
        async with self._fair.turn(job.tenant, job.session_id, job.tool.name, definition.concurrency):
            call, about = await self._call(job), job.about(attempt)
            if call is None:
                log.warning("call %s: its arguments cannot be opened, so it is not run: its deadline will end it", job.call)
                return
            failpoints.reach("executor.claiming")
            await self._report.begin(about, self._id)
            await begun.wait()
            failpoints.reach("executor.begun")
            result = await self._run(job, definition, call)
            failpoints.reach("executor.ran")
        await self._report.result(about, result)  # the effect is over: the next one need not wait for the report
        failpoints.reach("executor.reported")

    async def _call(self, job: Job) -> Call | None:
        """None where the arguments stay sealed: they were erased."""
        found = self._arguments.get(job.call)
        if found is None:
            found = await asyncio.to_thread(self._read_arguments, job)
        text = await self._seals.opened_at_last(found, job.session_id)
        if isinstance(text, Sealed):
            return None
        arguments = msgspec.json.decode(text, type=dict[str, Any])
        return Call(job.call, job.session_id, job.tenant, arguments, float(job.tool.timeout_seconds))

    def _read_arguments(self, job: Job) -> str | Sealed:
        """From the log, where they were asked for, and changed by who approved them."""
        found: str | Sealed = ""
        for record in self._services.log.read_at(SESSION.events, job.partition, job.places):
            body = self._services.registry.decode(self._services.events, record.value).body
            if isinstance(body, ToolCallRequested | ToolCallApproved) and body.call == job.call and body.arguments is not None:
                found = body.arguments
        return found

    async def _run(self, job: Job, definition: Definition, call: Call) -> Result:
        """The effect itself, unless the tool's breaker is open."""
        if refusal := await self._breakers.refusal(job.tenant, job.tool.name, job.call):
            return failed(refusal)
        begun = time.monotonic()
        with metrics.calls_running.track_inprogress():
            result = await self._runners.of(job.tenant, job.tool.version, definition).run(call)
        metrics.tool_seconds.labels(job.tool.name, "unsure" if result.unsure else result.outcome).observe(time.monotonic() - begun)
        await self._breakers.report(job.tenant, job.tool.name, job.call, result, sealed=job.seal is not None)
        return result


def _pause(attempt: int) -> float:
    """Seconds before another attempt (exponential, with jitter: the library's)."""
    if attempt == 1:
        return 0.0
    tries = RetryCallState(Retrying(), None, (), {})
    tries.attempt_number = attempt - 1
    return wait_exponential_jitter(multiplier=0.2, max=10)(tries)
