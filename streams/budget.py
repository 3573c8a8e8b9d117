"""The tenant's budget as the generic processor sees it, and what goes between it and the sessions that draw from it.

A session's owner sends its open draw again until it is answered; the budget's owner answers every draw that it records. So whichever of
the two is lost, and whatever is lost between them, the one who asks begins again.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from commands import amounts, budget
from commands.allotment import Ask
from ops import failpoints
from schemas.ids import derived_id, named_id, partition_of
from schemas.types import budget as types
from schemas.types import common
from schemas.types.budget import AllotmentDenied, Allotted, Draw
from schemas.types.session import RecordAllotment
from streams import aggregate
from streams.aggregate import Outline
from streams.noun import Noun
from streams.services import Services
from streams.session import SESSION

log = logging.getLogger("soma.worker")
AGAIN_SECONDS, AGAIN_SECONDS_AT_MOST = 1.0, 30.0
"""A draw that nobody answers is sent again after so long, each time after twice as long."""


def _nothing(_: Any) -> None:
    """A budget waits for nobody, and not for the clock: a window that is over is noticed by the next draw."""


def _no_command(_: Any, id: str) -> tuple[str, Any]:
    raise ValueError(f"{id} has no deadline")


def _no_place(_: Any) -> bool:
    return False


BUDGET = Noun(
    name="budget",
    commands="soma.budget.commands",
    events="soma.budget.events",
    snapshots="soma.budget.snapshots",
    command=types.BudgetCommand,
    event=types.BudgetEvent,
    initial=budget.initial,
    state=budget.State,
    decide=budget.decide,
    evolve=budget.evolve,
    outstanding=_nothing,
    due=_nothing,
    when_due=_no_command,
    keeps_place=_no_place,
    results=(Draw,),
    sources=(budget, amounts, aggregate, types, common),
    reported=True,
)


class Tasks:
    """What runs beside a processor, each under a key of its own."""

    def __init__(self) -> None:
        self._running: dict[Any, asyncio.Task[None]] = {}

    def start(self, key: Any, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._running[key] = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda done: self._done(key, done))

    def stop(self, key: Any) -> None:
        if task := self._running.pop(key, None):
            task.cancel()

    def _done(self, key: Any, task: "asyncio.Task[None]") -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("%s ended by a defect", task.get_name(), exc_info=error)


class Draws:
    """The Effects of sessions that wait for their tenant's budget. `start` once the services exist."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._open: dict[str, tuple[int, Ask]] = {}
        self._services: Services | None = None

    def start(self, services: Services) -> None:
        """Begin to send what is wanted. `services` are those of budgets."""
        self._services = services

    def seen(self, event: Any) -> None:
        """Draws come from states alone."""

    def want(self, partition: int, id: str, effect: Ask | None, aggregate: Outline[Any], trace: dict[str, str]) -> None:
        """Send this draw until the session waits for it no more."""
        if (before := self._open.get(id)) and before[1] == effect:
            return
        if before:
            self._tasks.stop(id)
            del self._open[id]
        if effect:
            self._open[id] = (partition, effect)
            self._tasks.start(id, self._send(id, aggregate.tenant or "", effect, trace), f"draw {effect.draw} of {id}")

    def release(self, partition: int) -> None:
        """Whoever owns the partition now sends its draws."""
        for id in [id for id, (number, _) in self._open.items() if number == partition]:
            self._tasks.stop(id)
            del self._open[id]

    async def _send(self, id: str, tenant: str, ask: Ask, trace: dict[str, str]) -> None:
        assert self._services, "start() comes before want()"
        home, pause = named_id(tenant, budget.NAME, budget.NAME), AGAIN_SECONDS
        draw = Draw(session=id, draw=ask.draw, used=ask.used, need=ask.need, wish=ask.wish, asked=ask.asked)
        while True:
            sent = derived_id(id, "draw", ask.draw, datetime.now(UTC).isoformat())  # its number says that it is the same draw
            try:
                await self._services.send(BUDGET, partition_of(home), home, sent, tenant, draw, trace)
            except KafkaError as error:
                log.warning("draw %d of %s: %r: sending it again", ask.draw, id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS_AT_MOST)


class Answers:
    """The Effects of budgets: each answer that is recorded goes to its session. `start` once the services exist."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._services: Services | None = None

    def start(self, services: Services) -> None:
        """Begin to answer. `services` are those of sessions."""
        self._services = services

    def seen(self, event: Any) -> None:
        """Send an answer that was just recorded."""
        match event.body:
            case Allotted() as body:
                answer = RecordAllotment(draw=body.draw, granted=body.granted)
            case AllotmentDenied() as body:
                answer = RecordAllotment(draw=body.draw, code=body.code, reason=body.reason)
            case _:
                return
        failpoints.reach("worker.allotted")
        self._tasks.start(
            event.meta.id, self._send(body.session, event.meta.tenant, answer), f"answer to draw {body.draw} of {body.session}"
        )

    def want(self, partition: int, id: str, effect: None, aggregate: Outline[Any], trace: dict[str, str]) -> None:
        """Nothing is open in a budget's state: who misses an answer draws again."""

    def release(self, partition: int) -> None:
        """An answer that was recorded is true, whoever sends it."""

    async def _send(self, session: str, tenant: str, answer: RecordAllotment) -> None:
        """Say it until Kafka has it: every try carries the same id."""
        assert self._services, "start() comes before seen()"
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(KafkaError),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        id = derived_id(session, "allotment", answer.draw)
        await retrying(self._services.send, SESSION, partition_of(session), session, id, tenant, answer, {})
