"""One attempt of a tool call: claimed by a recorded `ToolCallStarted`, run, and its outcome recorded. Nothing is run without the claim."""

import asyncio
import logging
from typing import Any, Literal

import msgspec
from aiokafka.errors import KafkaError
from cachetools import LRUCache
from msgspec import Struct
from tenacity import AsyncRetrying, RetryCallState, Retrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from commands.tool import Closed, HalfOpen, Open, Probing
from ops import failpoints
from ops.settings import Settings
from schemas.chain import digest
from schemas.ids import derived_id, named_id
from schemas.types.common import Sealed, Usage
from schemas.types.session import BeginCall, RecordResult, Tool, ToolCallApproved, ToolCallRequested
from schemas.types.tool import Definition, ProbeTool, ReportFailure, ReportSuccess
from streams.artifacts import Artifacts
from streams.fair import Fair
from streams.services import Services
from streams.session import SESSION
from streams.tool import TOOL, Tools, given
from streams.tools.running import Call, Result, Runner, failed, runner, ways

log = logging.getLogger("soma.executor")
AT_ONCE = 256
"""Calls that one executor runs at once."""
INLINE_BYTES = 64 << 10
"""A longer result goes to the artifact store."""
SHOWN_CHARACTERS = 4_000
"""What a model is shown of a result that is not all in the record."""
ARGUMENTS = 20_000


class Job(Struct, frozen=True):
    """A call that a session waits for, and where it is told of."""

    partition: int
    session_id: str
    tenant: str
    call: str
    tool: Tool
    places: list[int]


class _Claim(Struct):
    """An attempt of ours. `begun` is set once its ToolCallStarted is in the record."""

    partition: int
    attempt: int
    task: "asyncio.Task[None]"
    begun: asyncio.Event


class Attempts:
    """The attempts of one executor. A call has at most one here at a time."""

    def __init__(self, id: str, services: Services, for_tools: Services, tools: Tools, settings: Settings) -> None:
        self._id, self._services, self._for_tools, self._tools = id, services, for_tools, tools
        self._ways = ways(settings)
        self._artifacts = Artifacts(settings)
        self._fair = Fair(AT_ONCE)
        self._claims: dict[str, _Claim] = {}
        self._sessions: dict[str, set[str]] = {}
        self._runners: dict[tuple[str, str, int], Runner] = {}
        self._arguments: LRUCache[str, str] = LRUCache(ARGUMENTS)

    @property
    def count(self) -> int:
        """How many are waiting or under way."""
        return len(self._claims)

    def runs_in(self, partition: int) -> bool:
        """Whether an attempt of a session of this partition has begun here and is not over."""
        return any(claim.partition == partition and claim.begun.is_set() for claim in self._claims.values())

    def knows(self, session_id: str) -> bool:
        """Whether a call of the session is under way here."""
        return session_id in self._sessions

    def seen(self, event: Any) -> None:
        """Keep the arguments of calls that may come here soon."""
        body = event.body
        if isinstance(body, ToolCallRequested | ToolCallApproved) and isinstance(body.arguments, str):
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
        await asyncio.gather(*[each.close() for each in self._runners.values()], return_exceptions=True)

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
            call = await self._call(job)
            await self._send(job, "begin", attempt, BeginCall(call=job.call, attempt=attempt, executor=self._id))
            await begun.wait()
            failpoints.reach("executor.begun")
            result = await self._run(job, definition, call)
            failpoints.reach("executor.ran")
            outcome = await self._outcome(job, attempt, result)
        await self._send(job, "result", attempt, outcome)  # the effect is over: the next one need not wait for the report
        failpoints.reach("executor.reported")

    async def _call(self, job: Job) -> Call:
        text = self._arguments.get(job.call)
        if text is None:
            text = await asyncio.to_thread(self._read_arguments, job)
        arguments = msgspec.json.decode(text, type=dict[str, Any])
        return Call(job.call, job.session_id, job.tenant, arguments, float(job.tool.timeout_seconds))

    def _read_arguments(self, job: Job) -> str:
        """From the log, where they were asked for, and changed by who approved them."""
        found = ""
        for record in self._services.log.read_at(SESSION.events, job.partition, job.places):
            body = self._services.registry.decode(self._services.events, record.value).body
            if isinstance(body, ToolCallRequested | ToolCallApproved) and body.call == job.call and body.arguments is not None:
                assert not isinstance(body.arguments, Sealed), "sealed arguments cannot be read here"
                found = body.arguments
        return found

    async def _run(self, job: Job, definition: Definition, call: Call) -> Result:
        """The effect itself, unless the tool's breaker is open."""
        if refusal := await self._broken(job):
            return failed(refusal)
        key = (job.tenant, job.tool.name, job.tool.version)
        if key not in self._runners:
            self._runners[key] = runner(definition, self._ways)
        result = await self._runners[key].run(call)
        await self._report_tool(job, result)
        return result

    async def _broken(self, job: Job) -> str | None:
        """Why the tool is not called now. In a half-open breaker one call goes through: the one whose claim was recorded."""
        known = self._tools.find(job.tenant, job.tool.name)
        match known.breaker if known else Closed():
            case Closed():
                return None
            case Open(until=until):
                return f"{job.tool.name} does not work at present and was not called: it is tried again after {until.isoformat()}."
            case HalfOpen() | Probing():
                probe = derived_id(job.call, "probe", self._id)
                with self._tools.expecting(probe, None) as outcome:
                    await self._send_tool(job, probe, ProbeTool(call=job.call, executor=self._id))
                    try:
                        known = (await asyncio.wait_for(asyncio.shield(outcome), 5)).known
                    except TimeoutError:
                        known = None
                if known and isinstance(known.breaker, Closed):
                    return None
                if known and isinstance(known.breaker, Probing) and known.breaker.call == job.call:
                    return None
                return f"{job.tool.name} does not work at present and was not called: another call is trying it."

    async def _report_tool(self, job: Job, result: Result) -> None:
        """Failures count for the breaker; a success matters only after some."""
        known = self._tools.find(job.tenant, job.tool.name)
        if result.fault:
            reason = result.content.decode(errors="replace")[:300]
            await self._send_tool(job, derived_id(job.call, "failed", self._id), ReportFailure(call=job.call, reason=reason))
        elif known and known.breaker != Closed():
            await self._send_tool(job, derived_id(job.call, "worked", self._id), ReportSuccess(call=job.call))

    async def _outcome(self, job: Job, attempt: int, result: Result) -> RecordResult:
        """What is recorded: all of it, or its beginning and where the rest lies."""
        size, checksum, artifact = len(result.content), digest(result.content), None
        text = result.content.decode(errors="replace")
        if size > INLINE_BYTES:
            artifact = await self._artifacts.keep(job.tenant, checksum, result.content)
            text = f"{text[:SHOWN_CHARACTERS]}\n… the first {SHOWN_CHARACTERS} characters of {size} bytes."
        outcome: Literal["ok", "error"] = result.outcome
        return RecordResult(
            call=job.call,
            attempt=attempt,
            outcome=outcome,
            content=text,
            digest=checksum,
            bytes=size,
            artifact=artifact,
            retry=result.retry,
            usage=Usage(input_tokens=0, output_tokens=0, cost_micros=job.tool.cost_micros),
        )

    async def _send(self, job: Job, what: str, attempt: int, body: BeginCall | RecordResult) -> None:
        """Say it until Kafka has it. One id for all outcomes of an attempt (rule 11)."""
        id = derived_id(job.call, what, attempt, self._id if what == "begin" else "")
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(KafkaError),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(self._services.send, SESSION, job.partition, job.session_id, id, job.tenant, body, {})

    async def _send_tool(self, job: Job, id: str, body: Any) -> None:
        tool_id = named_id(job.tenant, "tool", job.tool.name)
        await self._for_tools.send(TOOL, 0, tool_id, id, job.tenant, body, {})


def _pause(attempt: int) -> float:
    """Seconds before another attempt (exponential, with jitter: the library's)."""
    if attempt == 1:
        return 0.0
    tries = RetryCallState(Retrying(), None, (), {})
    tries.attempt_number = attempt - 1
    return wait_exponential_jitter(multiplier=0.2, max=10)(tries)
