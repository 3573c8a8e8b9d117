"""Ends what goes on for long, streams above all, when its caller may not go on: within a second."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Never

import anyio

from gateway.auth import Principal
from gateway.keys import Keys

LOOK_SECONDS = 0.2


class Watch:
    """Looks at everyone who is watched every LOOK_SECONDS."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._watched: dict[anyio.Event, tuple[Principal, str]] = {}

    @contextmanager
    def over(self, principal: Principal, ended: anyio.Event, session_id: str) -> Iterator[None]:
        """`ended` is set when the principal's credential has expired, is good no more, or cannot be told to be good;
        and by `end`.
        """
        self._watched[ended] = principal, session_id
        try:
            yield
        finally:
            del self._watched[ended]

    def end(self, tenant: str, session_id: str | None) -> None:
        """Set the events of those who follow this session of the tenant's, or any of them."""
        for ended, (principal, id) in self._watched.items():
            if principal.tenant == tenant and session_id in (id, None):
                ended.set()

    async def run(self) -> Never:
        """Look until cancelled."""
        while True:
            for ended, (principal, _) in list(self._watched.items()):
                if not self._stands(principal):
                    ended.set()
            await asyncio.sleep(LOOK_SECONDS)

    def _stands(self, principal: Principal) -> bool:
        if principal.expires_at and datetime.now(UTC) >= principal.expires_at:
            return False
        return principal.kind != "key" or self._keys.holds(principal)
