"""Writes to what tenants call by names, and reads of it: the command into the log, what became of it out of the catalogue."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from gateway import refusals
from gateway.identity import command_id
from gateway.link import Link, NotAcknowledged
from gateway.positions import Position
from gateway.problems import KeyReused, NothingSent, NotYet, OutcomeUnknown
from gateway.reader import READ_SECONDS
from gateway.records import Records
from gateway.waits import Waits
from gateway.writer import Accepted
from ops.follow import Catalogue, Outcome
from schemas.codec import Codec, headers
from schemas.ids import named_id, partition_of
from schemas.types.common import CommandMeta, Digest, EventMeta, Refused

V = TypeVar("V")
MEMORY = timedelta(hours=24)
"""How long a key is remembered: as long as aggregates remember commands."""


@dataclass(frozen=True)
class Ask:
    """What a caller asks for, or the gateway, without `digest`. `wait`: how many seconds for its outcome; 0: only for Kafka's word."""

    name: str
    body: Any
    route: str
    key: str
    digest: Digest | None
    tenant: str
    actor: str
    policy: str | None
    wait: float
    trace: dict[str, str]

    @property
    def id(self) -> str:
        """The command's id."""
        return command_id(self.tenant, self.route, self.key)


class Written(NamedTuple, Generic[V]):
    """What is known after it. `changed`: it led to events; `replayed`: this key had done it before."""

    known: V
    changed: bool
    replayed: bool


class Named(Generic[V]):
    """One noun. `commands` is its commands topic, `command` the type of that topic's values."""

    def __init__(self, commands: str, command: type[Any], catalogue: Catalogue[V], link: Link, waits: Waits, records: Records) -> None:
        self._commands, self._command, self._records = commands, command, records
        self.catalogue, self._link, self._waits = catalogue, link, waits
        self._codec: Codec[Any] | None = None

    async def load(self) -> None:
        """Fetch the schema. Raises NotRegistered."""
        self._codec = await asyncio.to_thread(self._records.registry.codec, self._commands, self._command)

    async def fresh(self, position: Position | None, seconds: float, *, lenient: bool) -> Catalogue[V]:
        """What is known, with the command at `position`. Raises NothingSent before all is read; NotYet unless an older state will do."""
        self._ready()
        if position and not await self.catalogue.passed(*position, min(seconds, READ_SECONDS)) and not lenient:
            raise NotYet(f"The command at {position} is not applied yet.")
        return self.catalogue

    async def write(self, ask: Ask) -> Written[V] | Accepted:
        """Raises the problem that a refusal is, KeyReused, NothingSent, OutcomeUnknown, TooMany."""
        codec = self._ready()
        self._check_key(ask)
        with self._waits.admitted(ask.tenant), self.catalogue.expecting(ask.id, ask.digest) as outcome:
            position = await self._send(ask, codec)
            try:
                async with self._waits.within(ask.wait):
                    return self._answer(ask, position, await outcome)
            except TimeoutError:
                return Accepted(position)

    def _ready(self) -> Codec[Any]:
        if self._codec is None or not self.catalogue.ready:
            raise NothingSent("The gateway is starting, and reads what happened before: nothing was sent.")
        return self._codec

    def _check_key(self, ask: Ask) -> None:
        """An aggregate remembers its own keys; that another one took this key with another body is seen here."""
        if first := self.catalogue.outcome(ask.id):
            meta: EventMeta = first.events[0].meta
            if meta.key_digest != ask.digest and datetime.now(UTC) - meta.time < MEMORY:
                raise KeyReused("This Idempotency-Key was used with another body.")

    async def _send(self, ask: Ask, codec: Codec[Any]) -> Position:
        id, now = named_id(ask.tenant, self.catalogue.subject.noun, ask.name), datetime.now(UTC)
        meta = CommandMeta(
            id=ask.id, aggregate_id=id, tenant=ask.tenant, actor=ask.actor, time=now, key_digest=ask.digest, policy=ask.policy
        )
        value = self._records.keys.sign(self._commands, codec, self._command(meta=meta, body=ask.body))
        kind = f"soma.{self.catalogue.subject.noun}.{type(ask.body).__name__}"
        about = headers(id=meta.id, kind=kind, source=self._records.source, subject=id, time=now, trace=ask.trace)
        partition = partition_of(id)
        try:
            offset = await self._link.send(self._commands, partition, id.encode(), value, about)
        except NotAcknowledged:
            detail = "Kafka did not acknowledge it in time. It may be done, now or later, or not at all."
            raise OutcomeUnknown(detail, outcome="unknown", idempotency_key=ask.key) from None
        return Position(partition, offset)

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
