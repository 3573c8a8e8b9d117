"""What a caller asks of something that has a name within its tenant, and the way of that into the log."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.identity import command_id
from gateway.link import Link, NotAcknowledged
from gateway.positions import Position
from gateway.problems import NothingSent, OutcomeUnknown
from gateway.records import Records
from schemas.codec import Codec, headers
from schemas.ids import named_id, partition_of
from schemas.types.common import CommandMeta, Digest


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


class Sender:
    """One noun's way. `topic` is its commands topic, `command` the type of that topic's values."""

    def __init__(self, noun: str, topic: str, command: type[Any], link: Link, records: Records) -> None:
        self._noun, self._topic, self._command = noun, topic, command
        self._link, self._records = link, records
        self._codec: Codec[Any] | None = None

    async def load(self) -> None:
        """Fetch the schema. Raises NotRegistered."""
        self._codec = await asyncio.to_thread(self._records.registry.codec, self._topic, self._command)

    async def send(self, ask: Ask) -> Position:
        """Where Kafka has stored the command. Raises NothingSent, OutcomeUnknown."""
        if self._codec is None:
            raise NothingSent("The gateway is starting: nothing was sent.")
        id, now = named_id(ask.tenant, self._noun, ask.name), datetime.now(UTC)
        meta = CommandMeta(
            id=ask.id, aggregate_id=id, tenant=ask.tenant, actor=ask.actor, time=now, key_digest=ask.digest, policy=ask.policy
        )
        value = self._records.keys.sign(self._topic, self._codec, self._command(meta=meta, body=ask.body))
        kind = f"soma.{self._noun}.{type(ask.body).__name__}"
        about = headers(id=meta.id, kind=kind, source=self._records.source, subject=id, time=now, trace=ask.trace)
        partition = partition_of(id)
        try:
            return Position(partition, await self._link.send(self._topic, partition, id.encode(), value, about))
        except NotAcknowledged:
            detail = "Kafka did not acknowledge it in time. It may be done, now or later, or not at all."
            raise OutcomeUnknown(detail, outcome="unknown", idempotency_key=ask.key) from None
