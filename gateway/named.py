"""Writes to what tenants call by names, and reads of it: the command into the log, what became of it out of the catalogue."""

from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from gateway import refusals
from gateway.ask import Ask, Sender
from gateway.positions import Position
from gateway.problems import KeyReused, NothingSent, NotYet
from gateway.reader import READ_SECONDS
from gateway.waits import Waits
from gateway.writer import Accepted
from ops.follow import Catalogue, Outcome
from schemas.types.common import EventMeta, Refused

V = TypeVar("V")
MEMORY = timedelta(hours=24)
"""How long a key is remembered: as long as aggregates remember commands."""


class Written(NamedTuple, Generic[V]):
    """What is known after it. `changed`: it led to events; `replayed`: this key had done it before."""

    known: V
    changed: bool
    replayed: bool


class Named(Generic[V]):
    """One noun."""

    def __init__(self, catalogue: Catalogue[V], sender: Sender, waits: Waits) -> None:
        self.catalogue, self._sender, self._waits = catalogue, sender, waits

    async def load(self) -> None:
        """Fetch the schema. Raises NotRegistered."""
        await self._sender.load()

    async def fresh(self, position: Position | None, seconds: float, *, lenient: bool) -> Catalogue[V]:
        """What is known, with the command at `position`. Raises NothingSent before all is read; NotYet unless an older state will do."""
        self._ready()
        if position and not await self.catalogue.passed(*position, min(seconds, READ_SECONDS)) and not lenient:
            raise NotYet(f"The command at {position} is not applied yet.")
        return self.catalogue

    async def write(self, ask: Ask) -> Written[V] | Accepted:
        """Raises the problem that a refusal is, KeyReused, NothingSent, OutcomeUnknown, TooMany."""
        self._ready()
        self._check_key(ask)
        with self._waits.admitted(ask.tenant), self.catalogue.expecting(ask.id, ask.digest) as outcome:
            position = await self._sender.send(ask)
            try:
                async with self._waits.within(ask.wait):
                    return self._answer(ask, position, await outcome)
            except TimeoutError:
                return Accepted(position)

    def _ready(self) -> None:
        if not self.catalogue.ready:
            raise NothingSent("The gateway is starting, and reads what happened before: nothing was sent.")

    def _check_key(self, ask: Ask) -> None:
        """An aggregate remembers its own keys; that another one took this key with another body is seen here."""
        if first := self.catalogue.outcome(ask.id):
            meta: EventMeta = first.events[0].meta
            if meta.key_digest != ask.digest and datetime.now(UTC) - meta.time < MEMORY:
                raise KeyReused("This Idempotency-Key was used with another body.")

    def _answer(self, ask: Ask, position: Position, found: Outcome[V]) -> Written[V] | Accepted:
        """What a recorded outcome is for the caller: of a repetition, that of the first. Raises the problem that it was."""
        refused = _refusal(found)
        if refused and refused.code == "duplicate":
            found = self.catalogue.outcome(ask.id) or found
            refused = _refusal(found)
        if refused and refused.code not in ("unchanged", "duplicate"):
            raise refusals.without_state(refused)
        if found.known is None:
            return Accepted(position)
        first = found.events[0].meta.command
        replayed = (first.partition, first.offset) != position or (refused is not None and refused.code == "duplicate")
        return Written(found.known, changed=refused is None, replayed=replayed)


def _refusal(outcome: Outcome[Any]) -> Refused | None:
    body = outcome.events[-1].body
    return body if isinstance(body, Refused) else None
