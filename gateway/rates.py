"""How often a tenant and a caller may ask: two token buckets in this gateway, shown to callers by RateLimit headers.

A bucket is kept as one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371). The limits are of
one gateway: behind n gateways a caller may come to n times as many.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache

from gateway.auth import Principal
from gateway.problems import RateLimited

WINDOW_SECONDS = 60
MOST_BUCKETS = 100_000
"""More callers than these at once, and the one who was silent the longest has a full bucket again."""


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
        full_in = max(self._full_at.get(name, now) - now, 0.0) + self._interval
        if (over := full_in - WINDOW_SECONDS) > 1e-9:
            return Left(0, full_in - self._interval, over)
        self._full_at[name] = now + full_in
        return Left(int((WINDOW_SECONDS - full_in) / self._interval + 1e-9), full_in, 0.0)


class Rates:
    """The two buckets that each request is taken out of."""

    def __init__(self, tenant_quota: int, caller_quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._tenants, self._callers = Bucket(tenant_quota, clock), Bucket(caller_quota, clock)
        self._policy = f'"caller";q={caller_quota};w={WINDOW_SECONDS}, "tenant";q={tenant_quota};w={WINDOW_SECONDS}'

    def take(self, who: Principal) -> dict[str, str]:
        """The headers that say what is left (draft-ietf-httpapi-ratelimit-headers-10). Raises RateLimited.

        The caller's bucket comes first, so that one who asks too often takes nothing from others of the tenant.
        """
        named = (("caller", self._callers, f"{who.tenant}\x1f{who.kind}\x1f{who.actor}"), ("tenant", self._tenants, who.tenant))
        said = {"RateLimit-Policy": self._policy}
        items = list[str]()
        for limit, bucket, name in named:
            left = bucket.take(name)
            items.append(f'"{limit}";r={left.requests};t={math.ceil(left.full_in)}')
            said["RateLimit"] = ", ".join(items)
            if left.wait:
                detail = f"The limit of this {limit} is {bucket.quota} requests in {WINDOW_SECONDS} s."
                raise RateLimited(detail, said | {"Retry-After": str(math.ceil(left.wait))})
        return said
