"""What works and what does not: each part asked within bounded time, and not more often than once a second."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.audit import Audit
from gateway.credentials import SignIn
from gateway.link import Link
from gateway.reader import Reader
from gateway.records import Records
from gateway.tail import Tail
from ops.follow import Catalogue
from ops.seal import KeysDown
from projections.queries import ReadModelDown
from projections.session import EVENTS
from schemas.registry import RegistryDown

ASK_SECONDS = 2.0
FRESH_SECONDS = 1.0
HIDDEN = "shown to those who sign in"
LAG_LIMIT = 10_000
"""Events that the read model may be behind before that is worth a look."""


class Part(NamedTuple):
    """One of `ok`, `degraded`, `down`, and what to know about it."""

    status: str
    detail: str


class Health:
    """`failure` says why this process is about to end, if it is."""

    def __init__(
        self,
        link: Link,
        tail: Tail,
        named: Sequence[Catalogue[Any]],
        records: Records,
        reader: Reader,
        sign_in: SignIn,
        audit: Audit,
    ) -> None:
        self._link, self._tail, self._named, self._records, self._reader = link, tail, named, records, reader
        self._sign_in, self._audit = sign_in, audit
        self._looked, self._parts = 0.0, dict[str, Part]()
        self._looking = asyncio.Lock()
        self._asking: asyncio.Task[None] | None = None
        self.failure: str | None = None

    async def document(self, *, in_detail: bool) -> dict[str, Any]:
        """The answer of /health. Details name addresses and reasons, which are not for everybody."""
        parts = await self._fresh()
        states = [part.status for part in parts.values()]
        status = "down" if "down" in states else "degraded" if "degraded" in states else "ok"
        return {
            "status": status,
            "parts": {name: {"status": part.status, "detail": part.detail if in_detail else HIDDEN} for name, part in parts.items()},
        }

    async def _fresh(self) -> dict[str, Part]:
        async with self._looking:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                registry, (read_model, lag), seal = await asyncio.gather(self._registry_part(), self._read_model(), self._seal())
                kafka = Part("ok" if self._link.up else "down", self._link.detail)
                self._parts = {"kafka": kafka, "registry": registry, "read_model": read_model, "lag": lag, "seal": seal}
                self._looked = time.monotonic()
        own = {"sign_in": Part(*self._sign_in.status()), "audit": Part(*self._audit.status())}
        return {"gateway": self._gateway(), **self._parts, **own}

    def _gateway(self) -> Part:
        if self.failure:
            return Part("down", f"stopping, to be started again: {self.failure}")
        if not self._records.loaded:
            return Part("down", "waiting for the schema registry")
        if not (self._tail.caught_up and all(catalogue.ready for catalogue in self._named)):
            return Part("down", "reading what happened before it was started")
        return Part("ok", f"reads {len(self._tail.readings)} partitions")

    async def _registry_part(self) -> Part:
        """Without it running processes go on, so its absence takes nothing out of service. One question at a time: each holds a thread."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._records.registry.ping))
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await asyncio.shield(self._asking)
        except (RegistryDown, TimeoutError):
            return Part("degraded", "does not answer; what runs goes on without it")
        return Part("ok", "answers")

    async def _seal(self) -> Part:
        """Without its keys text can be neither written nor shown."""
        if not self._reader.seals.on:
            return Part("ok", "text is not sealed (SOMA_SEAL is off)")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._reader.seals.check()
        except (KeysDown, TimeoutError) as error:
            return Part("down", str(error) or f"The keys of sealed text do not come within {ASK_SECONDS:.0f} s.")
        return Part("ok", "the keys of sealed text can be had")

    async def _read_model(self) -> tuple[Part, Part]:
        """Whether it answers and this release's projector can go on with it, and how far it is behind what this gateway has read."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                positions, others = await self._reader.queries.positions(EVENTS), await self._reader.queries.of_other_folds()
        except (ReadModelDown, TimeoutError) as error:
            return Part("down", str(error) or f"no answer within {ASK_SECONDS:.0f} s"), Part("degraded", "unknown")
        behind = {
            number: max(reading.head.next_offset - (positions[number].head.next_offset if number in positions else 0), 0)
            for number, reading in self._tail.readings.items()
        }
        lag = sum(behind.values())
        rows = Part("degraded", f"rows of {', '.join(others)} were made by another release's code: run `soma rebuild`")
        return rows if others else Part("ok", "answers"), Part("ok" if lag < LAG_LIMIT else "degraded", f"{lag} events behind")
