"""The writes that wait for their outcome, of every noun: so many at once, and none for longer than Kafka is there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.link import Link
from gateway.problems import TooMany
from ops import metrics


class Waits:
    """At most `limit` writes at once."""

    def __init__(self, link: Link, limit: int) -> None:
        self._limit, self._in_flight = limit, 0
        self._limits: set[asyncio.Timeout] = set()
        link.when_down.append(self._stop)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Raises TooMany."""
        if self._in_flight >= self._limit:
            raise TooMany(f"{self._limit} writes wait for their outcome in this gateway: nothing was sent.", {"Retry-After": "1"})
        self._in_flight += 1
        metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            metrics.in_flight.set(self._in_flight)

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when the time is over, or Kafka is gone."""
        async with asyncio.timeout(seconds) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def _stop(self) -> None:
        """Kafka is gone: what was acknowledged is safe, and nothing more will be heard of it now."""
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())
