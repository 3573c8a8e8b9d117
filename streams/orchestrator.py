"""Runs the model calls that states wait for (rule 11): begun once their events are in the log, ended as commands with derived ids.

A takeover starts exactly those again that are outstanding; a cancel that is recorded stops the call that runs here.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError
from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import replace
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from commands.session import ModelCall, is_message, result_id
from commands.talk import cost
from ops import failpoints, metrics
from ops.models import Model
from ops.seal import Erased, Seals
from ops.telemetry import span
from schemas.codec import Codec
from schemas.ids import new_id, partition_of
from schemas.types.common import Usage
from schemas.types.session import Origin, OutputDelta, RecordFailure, RecordReply, SessionEvent, SessionStarted
from schemas.types.tool import Definition
from streams.aggregate import Outline
from streams.conversation import asked, messages
from streams.models import Ending, Offer, Prompt, Rejected, Replier, Unavailable, replier
from streams.services import Services
from streams.session import SESSION
from streams.tool import Tools, given

log = logging.getLogger("soma.orchestrator")
OUTPUT = "soma.session.output"
CONVERSATIONS = 5_000
"""Conversations kept in memory; others are read from the log by their places."""
REPLY_CHARACTERS = 200_000
"""A longer reply is given up: its record must fit into one append."""
DELTA_SECONDS = 0.05
"""Pieces that a model writes within this time go out as one delta."""

ERASED = "The key of the session's text was destroyed: nobody can read what was said in it."
Said = tuple[str, Any]
"""What was said, and the session in which it was: sealed text can be opened only as that one's."""


class Reply(Struct):
    """A reply that is being written."""

    attempt: str
    text: list[str]
    sent: int = 0
    index: int = 0
    flushed: float = 0.0


class Job(Struct, frozen=True):
    """A model call that a session waits for."""

    partition: int
    session_id: str
    tenant: str
    call: ModelCall
    places: list[int]


class Running(Struct, frozen=True):
    """A job under way."""

    job: Job
    task: "asyncio.Task[None]"


class Orchestrator:
    """The Effects of sessions. `start` once the services exist; everything runs on one event loop."""

    def __init__(self, models: Mapping[str, Model], output: Codec[OutputDelta], tools: Tools, seals: Seals) -> None:
        self._models, self._output, self._tools, self._seals = models, output, tools, seals
        self._repliers: dict[str, Replier] = {name: replier(model) for name, model in models.items()}
        self._places = {name: asyncio.Semaphore(model.concurrency) for name, model in models.items()}
        self._running: dict[str, Running] = {}
        self._conversations: LRUCache[str, list[Any]] = LRUCache(CONVERSATIONS)
        self._services: Services | None = None

    def start(self, services: Services) -> None:
        """Begin to run what is wanted."""
        self._services = services

    def seen(self, event: SessionEvent) -> None:
        """Keep the conversations that grow here in memory."""
        if is_message(event.body):
            self._conversations.setdefault(event.meta.aggregate_id, []).append(event.body)

    def want(self, partition: int, id: str, effect: ModelCall | None, aggregate: Outline[Any], trace: dict[str, str]) -> None:
        """Start the call, unless it runs; stop the one that is no longer waited for."""
        running = self._running.get(id)
        if running and effect != running.job.call:
            running.task.cancel()
            running = None
        if effect and running is None:
            job = Job(partition, id, aggregate.tenant or "", effect, aggregate.places)
            task = asyncio.create_task(self._run(job, trace), name=f"model call {id} {effect.request}")
            self._running[id] = Running(job, task)
            task.add_done_callback(lambda done: self._done(id, done))
            metrics.effects.set(len(self._running))

    def release(self, partition: int) -> None:
        """Stop the calls of a partition that another worker may own now."""
        for running in self._running.values():
            if running.job.partition == partition:
                running.task.cancel()

    def _done(self, id: str, task: "asyncio.Task[None]") -> None:
        if (running := self._running.get(id)) and running.task is task:
            del self._running[id]
        metrics.effects.set(len(self._running))
        if not task.cancelled() and (error := task.exception()):
            log.error("%s ended by a defect: its deadline will end the turn", task.get_name(), exc_info=error)

    async def _run(self, job: Job, trace: dict[str, str]) -> None:
        """One call, from the conversation to the command that records its outcome."""
        with span("model call", trace, model=job.call.model) as onward:
            started = time.perf_counter()
            outcome = await self._sealed(job, await self._outcome(job))
            kind = "reply" if isinstance(outcome, RecordReply) else outcome.code
            metrics.model_seconds.labels(job.call.model, kind).observe(time.perf_counter() - started)
            failpoints.reach("worker.answered")
            await self._report(job, outcome, onward)

    async def _outcome(self, job: Job) -> RecordReply | RecordFailure:
        call, reply = job.call, Reply(attempt=new_id(job.partition), text=[])
        seconds = max((call.deadline - datetime.now(UTC)).total_seconds(), 0)
        if call.model not in self._models:
            return _failure(call, reply, "rejected", f"No model {call.model!r} is configured here.")
        try:
            async with asyncio.timeout(seconds), self._places[call.model]:
                tools = await given(self._tools, job.tenant, call.tools)
                ending = await self._ask(job, await self._prompt(job, tools), reply, seconds)
        except TimeoutError:
            return _failure(call, reply, "deadline", f"The model did not answer within {seconds:.0f} s.")
        except Rejected as error:
            return _failure(call, reply, "rejected", str(error))
        except Erased:
            return _failure(call, reply, "erased", ERASED)
        content, usage = "".join(reply.text), _priced(call, ending.usage)
        if len(content) > REPLY_CHARACTERS:
            return _failure(call, reply, "too_large", f"The reply is longer than {REPLY_CHARACTERS} characters.", usage)
        return RecordReply(
            request=call.request,
            attempt=reply.attempt,
            content=content,
            finish_reason=ending.finish_reason,
            usage=usage,
            calls=asked(ending.calls, tools),
        )

    async def _sealed(self, job: Job, outcome: RecordReply | RecordFailure) -> RecordReply | RecordFailure:
        """For the record. A reply to a session that was erased meanwhile is not kept, but what it cost."""
        try:
            return await self._seals.sealed_at_last(outcome, job.call.seal, job.session_id)
        except Erased:
            return RecordFailure(request=outcome.request, attempt=outcome.attempt, code="erased", reason=ERASED, usage=outcome.usage)

    async def _prompt(self, job: Job, tools: Mapping[str, Definition]) -> Prompt:
        offers = tuple(Offer(name, tool.description, tool.parameters) for name, tool in tools.items())
        most = self._models[job.call.model].max_tokens
        told = [await self._seals.opened_at_last(body, id) for id, body in await self._conversation(job)]
        return Prompt(messages(told), min(job.call.max_tokens or most, most), offers)

    async def _ask(self, job: Job, prompt: Prompt, reply: Reply, seconds: float) -> Ending:
        """Ask, again while the server is unavailable: the deadline around this ends it. Each attempt begins its text anew."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Unavailable), wait=wait_exponential_jitter(multiplier=0.5, max=10), before_sleep=_log_retry
        ):
            with attempt:
                reply.attempt, reply.text, reply.sent, reply.index = new_id(job.partition), [], 0, 0
                async for piece in self._repliers[job.call.model].reply(prompt, seconds):
                    if isinstance(piece, Ending):
                        return piece
                    reply.text.append(piece)
                    await self._delta(job, reply)
        raise AssertionError("a reply ends with its Ending")

    async def _delta(self, job: Job, reply: Reply) -> None:
        """Hand on what was written since the last delta; nobody waits for it, and the recorded reply supersedes it. Raises Erased."""
        now = time.monotonic()
        if now - reply.flushed < DELTA_SECONDS:
            return
        text = "".join(reply.text[reply.sent :])
        delta = OutputDelta(session_id=job.session_id, request=job.call.request, attempt=reply.attempt, index=reply.index, text=text)
        reply.flushed, reply.sent, reply.index = now, len(reply.text), reply.index + 1
        delta = await self._seals.sealed_at_last(delta, job.call.seal, job.session_id)
        await self._ready().side.send(OUTPUT, self._output.encode(delta), job.session_id.encode(), partition=job.partition)

    async def _report(self, job: Job, outcome: RecordReply | RecordFailure, trace: dict[str, str]) -> None:
        """Say the outcome until Kafka has it: every try carries the same id."""
        id, command_id = job.session_id, result_id(job.session_id, job.call.request)
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(KafkaError), wait=wait_exponential_jitter(multiplier=0.2, max=5)):
            with attempt:
                await self._ready().send(SESSION, job.partition, id, command_id, job.tenant, outcome, trace)

    async def _conversation(self, job: Job) -> list[Said]:
        """Records, from memory when that holds all, else from the log by their places; those of the session it was forked from first."""
        kept = self._conversations.get(job.session_id)
        if kept is None or len(kept) != len(job.places):
            kept = await asyncio.to_thread(self._read, job)
            self._conversations[job.session_id] = kept
        first = kept[0] if kept else None
        if isinstance(first, SessionStarted) and first.origin:
            return [*await asyncio.to_thread(self._read_origin, first.origin), *_said(job.session_id, kept)]
        return _said(job.session_id, kept)

    def _read(self, job: Job) -> list[Any]:
        return self._bodies(job.partition, job.places)

    def _read_origin(self, origin: Origin) -> list[Said]:
        bodies = self._bodies(partition_of(origin.session_id), origin.places)
        first = bodies[0] if bodies else None
        earlier = self._read_origin(first.origin) if isinstance(first, SessionStarted) and first.origin else []
        return [*earlier, *_said(origin.session_id, bodies)]

    def _bodies(self, partition: int, places: Sequence[int]) -> list[Any]:
        services = self._ready()
        records = services.log.read_at(SESSION.events, partition, list(places))
        return [services.registry.decode(services.events, record.value).body for record in records]

    def _ready(self) -> Services:
        assert self._services, "start() comes before want()"
        return self._services


def _said(session_id: str, bodies: Sequence[Any]) -> list[Said]:
    return [(session_id, body) for body in bodies]


def _priced(call: ModelCall, usage: Usage | None) -> Usage | None:
    return usage and replace(usage, cost_micros=cost(call.price, usage.input_tokens, usage.output_tokens))


def _failure(call: ModelCall, reply: Reply, code: str, reason: str, usage: Usage | None = None) -> RecordFailure:
    return RecordFailure(request=call.request, attempt=reply.attempt, code=code, reason=reason, usage=usage)


def _log_retry(state: Any) -> None:
    log.warning("The model is unavailable (%s), attempt %d: asking again", state.outcome.exception(), state.attempt_number)
