"""Asks tools how calls ended whose outcome is unknown: at their status address, from the moment that the record says so.

What is asked follows from the sessions' states, also of those that have ended; the answer is a command with a derived id. So it does not
matter which executor asks, or that two do.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_exponential_jitter

from commands.talk import Unknown
from ops import metrics
from streams.report import About, Report
from streams.tool import Tools, given
from streams.tools.running import Result, Runner, Runners

log = logging.getLogger("soma.executor")
ASKED_FOR = timedelta(hours=24)
"""How long after the outcome became unknown the tool is asked; then it is left to a person."""
FIRST_SECONDS, MOST_SECONDS = 1.0, 600.0
"""Between two questions: doubled each time, with jitter."""
AT_ONCE = 16


class Inquiries:
    """The questions of one executor: a task for each call, until it is known or its time is over."""

    def __init__(self, tools: Tools, runners: Runners, report: Report) -> None:
        self._tools, self._runners, self._report = tools, runners, report
        self._asking: dict[str, dict[str, asyncio.Task[None]]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def keep(self, partition: int, session_id: str, tenant: str, unknown: Iterable[Unknown], seal: str | None) -> None:
        """These calls of the session are unknown, and no others."""
        wanted, asking = {each.call: each for each in unknown}, self._asking.pop(session_id, {})
        for call in asking.keys() - wanted.keys():
            asking.pop(call).cancel()
        for call, each in wanted.items():
            if call not in asking:
                about = About(partition, session_id, tenant, call, each.attempt, repeat_safe=False, cost_micros=0, seal=seal)
                asking[call] = asyncio.create_task(self._ask(about, each), name=f"call {call} status")
        if asking:
            self._asking[session_id] = asking

    def forget(self) -> None:
        """Whoever reads these partitions now asks."""
        for asking in self._asking.values():
            for task in asking.values():
                task.cancel()
        self._asking.clear()

    async def close(self) -> None:
        tasks = [task for asking in self._asking.values() for task in asking.values()]
        self.forget()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, about: About, unknown: Unknown) -> None:
        left = unknown.since + ASKED_FOR - datetime.now(UTC)
        definition = (await given(self._tools, about.tenant, [(unknown.tool, unknown.version)]))[unknown.tool]
        if left <= timedelta(0) or definition.http is None or definition.http.status_url is None:
            return
        asking = AsyncRetrying(
            retry=retry_if_result(_says_nothing),
            wait=wait_exponential_jitter(initial=FIRST_SECONDS, max=MOST_SECONDS),
            stop=stop_after_delay(left),
        )
        try:
            with metrics.calls_unknown.track_inprogress():
                result: Result | None = await asking(self._status, self._runners.of(about.tenant, unknown.version, definition), about.call)
        except RetryError:
            log.warning("call %s: %s does not say how it ended: a person has to settle it", about.call, unknown.tool)
            return
        assert result, "retried until it says something"
        await self._report.settle(about, result)

    async def _status(self, runner: Runner, call: str) -> Result | None:
        async with self._turns:
            return await runner.status(call)


def _says_nothing(result: Result | None) -> bool:
    return result is None or result.retry or result.fault
