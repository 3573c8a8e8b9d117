"""A token bucket for each of many names, in bounded memory: what requests, and what failures, are taken out of.

A bucket is kept as one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371).
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache

WINDOW_SECONDS = 60
MOST_BUCKETS = 100_000
"""More names than these at once, and the one that was silent the longest has a full bucket again."""


class Left(NamedTuple):
    """What a bucket holds after a request: whole requests, and the seconds until it is full; `wait`: the seconds until there is one."""

    requests: int
    full_in: float
    wait: float


class Bucket:
    """Holds `quota` requests for each name, and is filled at as many a minute."""

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self._clock, self._interval = clock, WINDOW_SECONDS / quota
        self._full_at: LRUCache[str, float] = LRUCache(MOST_BUCKETS)

    def take(self, name: str) -> Left:
        """Take one request out, if there is one: `wait` is 0 then."""
        now = self._clock()
        full_in = self._full_in(name, now) + self._interval
        if (over := full_in - WINDOW_SECONDS) > 1e-9:
            return Left(0, full_in - self._interval, over)
        self._full_at[name] = now + full_in
        return Left(int((WINDOW_SECONDS - full_in) / self._interval + 1e-9), full_in, 0.0)

    def wait(self, name: str) -> float:
        """Seconds until there is one to take out; 0: there is one. Takes none."""
        over = self._full_in(name, self._clock()) + self._interval - WINDOW_SECONDS
        return over if over > 1e-9 else 0.0

    def _full_in(self, name: str, now: float) -> float:
        return max(self._full_at.get(name, now) - now, 0.0)
