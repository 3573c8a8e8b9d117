"""How often a tenant and a caller may ask: two token buckets in this gateway, shown to callers by RateLimit headers.

The limits are of one gateway: behind n gateways a caller may come to n times as many.
"""

import math
import time
from collections.abc import Callable

from gateway.auth import Principal
from gateway.bucket import WINDOW_SECONDS, Bucket
from gateway.problems import RateLimited


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
