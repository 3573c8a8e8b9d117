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
        self._watched: dict[anyio.Event, Principal] = {}

    @contextmanager
    def over(self, principal: Principal, ended: anyio.Event) -> Iterator[None]:
        """`ended` is set when the principal's credential has expired, is good no more, or cannot be told to be good."""
        self._watched[ended] = principal
        try:
            yield
        finally:
            del self._watched[ended]

    async def run(self) -> Never:
        """Look until cancelled."""
        while True:
            for ended, principal in list(self._watched.items()):
                if not self._stands(principal):
                    ended.set()
            await asyncio.sleep(LOOK_SECONDS)

    def _stands(self, principal: Principal) -> bool:
        if principal.expires_at and datetime.now(UTC) >= principal.expires_at:
            return False
        return principal.kind != "key" or self._keys.holds(principal)
