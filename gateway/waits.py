"""The writes that wait for their outcome, of every noun: so many at once, so many of one tenant, none for longer than Kafka is there.

A turn that a caller waits for is one of them. What goes on without a caller is counted by the record (gateway/at_work.py).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.link import Link
from gateway.problems import TooMany
from ops import metrics


class Waits:
    """At most `limit` writes at once, at most `tenant_limit` of them of one tenant."""

    def __init__(self, link: Link, limit: int, tenant_limit: int) -> None:
        self._limit, self._tenant_limit = limit, tenant_limit
        self._in_flight, self._of_tenants = 0, Counter[str]()
        self._limits: set[asyncio.Timeout] = set()
        link.when_down.append(self._stop)

    @contextmanager
    def admitted(self, tenant: str) -> Iterator[None]:
        """Raises TooMany."""
        if self._in_flight >= self._limit:
            raise TooMany(f"{self._limit} writes wait for their outcome in this gateway: nothing was sent.", {"Retry-After": "1"})
        if self._of_tenants[tenant] >= self._tenant_limit:
            detail = f"{self._tenant_limit} writes of this tenant wait for their outcome in this gateway: nothing was sent."
            raise TooMany(detail, {"Retry-After": "1"})
        self._count(tenant, 1)
        try:
            yield
        finally:
            self._count(tenant, -1)

    def _count(self, tenant: str, change: int) -> None:
        self._in_flight += change
        self._of_tenants[tenant] += change
        if not self._of_tenants[tenant]:
            del self._of_tenants[tenant]
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
