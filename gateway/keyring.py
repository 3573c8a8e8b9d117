"""The keys that tokens are checked with: fetched from where they are kept, again and again, and believed for a bounded time."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from joserfc.jwk import Key

from gateway.key_material import MOST_KEYS, secret_key

log = logging.getLogger("soma.gateway.keys")
ASK_SECONDS = 3.0
PAUSE_SECONDS = 5.0
"""How often a source is asked at most, whatever tokens come."""


class SourceDown(Exception):
    """The source does not answer, or answers what cannot be used; the message says which, and holds no secret."""


class Fetched(NamedTuple):
    """Keys, and after how many seconds they should be fetched again."""

    keys: Sequence[Key]
    again: float


class Source(Protocol):
    """Where keys are kept. `kinds` are the kinds of key that are believed from there."""

    name: str
    kinds: frozenset[str]

    async def fetch(self) -> Fetched:
        """Raises SourceDown."""
        ...


class Secret:
    """A Source that has its one key from the start."""

    name, kinds = "GATEWAY_JWT_SECRET", frozenset({"oct"})

    def __init__(self, secret: str) -> None:
        self._key = secret_key(secret)

    async def fetch(self) -> Fetched:
        return Fetched([self._key], 3600.0)


class Keyring:
    """The keys of one source. They are not believed any more when the last answer is older than `fresh` seconds."""

    def __init__(self, source: Source, fresh: float, pause: float = PAUSE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.kinds, self.name = source.kinds, source.name
        self._source, self._fresh, self._pause, self._clock = source, fresh, pause, clock
        self._keys: Sequence[Key] = ()
        self._answered = self._asked = float("-inf")
        self._again = pause
        self._asking: asyncio.Task[None] | None = None
        self.failing = "not asked yet"
        """Why the last question had no answer; empty where it had one."""

    @property
    def stale(self) -> bool:
        return self._clock() - self._answered > self._fresh

    def fitting(self, kind: str, kid: str | None) -> list[Key]:
        """The keys that may have signed a token: of the kind, and of the id that it names, if it names one."""
        if self.stale:
            return []
        return [key for key in self._keys if key.key_type == kind and (kid is None or key.kid in (None, kid))]

    async def renew(self) -> None:
        """Ask the source, unless it was asked within the pause. All who come meanwhile wait for the one answer. Never raises."""
        if self._asking is None or self._asking.done():
            if self._clock() - self._asked < self._pause:
                return
            self._asked = self._clock()
            self._asking = asyncio.create_task(self._ask())
        await asyncio.shield(self._asking)

    async def run(self) -> None:
        """Keep the keys fresh, also where nobody signs in: leases of the source's own credentials depend on it.

        A source that failed, whoever asked it, is asked again after the pause.
        """
        while True:
            if self.failing or self._clock() - self._answered >= self._again:
                await self.renew()
            await asyncio.sleep(self._pause)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                fetched = await self._source.fetch()
        except TimeoutError:
            self._failed(f"no answer within {ASK_SECONDS:g} s")
        except SourceDown as error:
            self._failed(str(error))
        else:
            self._keys = [key for key in fetched.keys[:MOST_KEYS] if key.key_type in self.kinds]
            self._answered, self._again, self.failing = self._clock(), fetched.again, ""

    def _failed(self, why: str) -> None:
        if why != self.failing:
            log.warning("%s: %s", self.name, why)
        self.failing = why
