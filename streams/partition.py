"""What the records of one events partition say, and what the next command of it becomes (rules 2 to 6). No I/O, no clock.

Folding a record that was read and deciding a new one end in the same `take`, so both give the same state.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from commands.decision import Refusal
from schemas.chain import Head
from schemas.codec import Codec, headers
from schemas.ids import derived_id, partition_of
from schemas.types.common import CommandMeta, CommandsLost, EventMeta, Position, RecordVoided, Refused
from streams.aggregate import Aggregate, Outline, billed, timely
from streams.noun import Noun

RECORD_LIMIT = 900_000
"""Bytes that the records of one command may take: below Kafka's default `max.message.bytes` of 1 MiB, framing included."""
FIELDS = 64
"""Bytes of Kafka's own fields in a record, generously."""
OVERHEAD = 1_024
"""Bytes of a record besides its value where its headers are not made yet, generously."""
UNPROVEN = "It has no proof by a key that is known here: look at the command in its place."
UNTIMELY = "It was made long before Kafka took it, or after: either it is a copy of an older command, or a clock is wrong."
PLATFORM = "platform"
"""Actor of the platform's own commands."""

NEVER = datetime.min.replace(tzinfo=UTC)


class Incoming(Struct, frozen=True):
    """A record of a commands topic. `time` is when Kafka took it, by the broker's clock; without it the command's own is believed.

    `command` is None when its bytes cannot be read, and `unreadable` says why; or when nobody here signed it: then it is `unproven`.
    """

    position: Position
    command: Any
    key: bytes = b""
    size: int = 0
    time: datetime = NEVER
    trace: dict[str, str] = {}
    unreadable: str = ""
    unproven: bool = False


class Outgoing(Struct, frozen=True):
    """A record to append, and the event that it holds."""

    event: Any
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def size(self) -> int:
        """An upper bound of its bytes in a batch."""
        return len(self.key) + len(self.value) + sum(len(name) + len(text) + 4 for name, text in self.headers) + FIELDS


class Partition:
    """The fold of one events partition. `ahead()` gives one to decide in, whose decisions count once it is adopted."""

    def __init__(self, noun: Noun, number: int, codec: Codec[Any], origin: str) -> None:
        self.noun, self.number, self.codec, self.origin = noun, number, codec, origin
        self.head = Head()
        self.applied: Position | None = None
        self.rows: dict[str, bytes] = {}
        self._open: dict[str, Aggregate[Any]] = {}
        self._base: Partition | None = None
        self._outlines = msgspec.msgpack.Decoder(Outline[noun.state])  # type: ignore[name-defined]
        self._decoder = msgspec.msgpack.Decoder(Aggregate[noun.state])  # type: ignore[name-defined]

    def ahead(self) -> "Partition":
        """A partition that begins as this one and changes nothing in it."""
        copy = Partition.__new__(Partition)
        copy.noun, copy.number, copy.codec, copy.origin = self.noun, self.number, self.codec, self.origin
        copy.head, copy.applied = self.head, self.applied
        copy._decoder, copy._outlines = self._decoder, self._outlines
        copy.rows, copy._open, copy._base = {}, {}, self
        return copy

    def adopt(self, ahead: "Partition") -> list[str]:
        """Make decisions this partition's truth, now that their records are in the log. Ids of the aggregates that changed."""
        changed = ahead.settle()
        self.rows.update(ahead.rows)
        self.head, self.applied = ahead.head, ahead.applied
        return changed

    def settle(self) -> list[str]:
        """Put the aggregates that are open into their rows. Their ids."""
        self.rows.update((id, msgspec.msgpack.encode(aggregate)) for id, aggregate in self._open.items())
        settled = list(self._open)
        self._open.clear()
        return settled

    def aggregate(self, id: str) -> Aggregate[Any]:
        """The aggregate as it stands here."""
        if id not in self._open:
            row = self.rows.get(id) or (self._base.rows.get(id) if self._base else None)
            self._open[id] = self._decoder.decode(row) if row else Aggregate(self.noun.initial)
        return self._open[id]

    def peek(self, id: str) -> Outline[Any]:
        """The outline of an aggregate as it stands in its row, to look at only."""
        row = self.rows.get(id)
        return self._outlines.decode(row) if row else Outline(self.noun.initial)

    def expected(self, epoch: str) -> int:
        """The offset of the next command: after the last recorded one, or 0 in an epoch that has none (rule 5)."""
        return self.applied.offset + 1 if self.applied and self.applied.epoch == epoch else 0

    def take(self, event: Any, value: bytes, offset: int) -> bool:
        """Fold one record. False when it is void. Raises ChainBroken, also when an aggregate's versions are not contiguous."""
        self.head, valid = self.head.take(event.meta, value, offset)
        if valid:
            self.aggregate(event.meta.aggregate_id).apply(event, offset, self.noun)
            if event.meta.index == event.meta.count - 1:
                self.applied = event.meta.command
        return valid

    def whole(self) -> bool:
        """Whether the aggregates account for every record and every version of the chain (rule 8)."""
        self.settle()
        rows = [self._outlines.decode(row) for row in self.rows.values()]
        return sum(r.records for r in rows) == self.head.sequence and sum(r.version for r in rows) == self.head.versions

    def decide(self, incoming: Incoming) -> list[Outgoing]:
        """The records of one command, folded in already: its events, or one Refused."""
        if incoming.unproven:
            return self._record(incoming, _unproven(incoming), [Refused(code="unproven", reason=UNPROVEN)])
        if incoming.command is None:
            return self._record(incoming, _unreadable(incoming), [Refused(code="unreadable", reason=incoming.unreadable)])
        meta: CommandMeta = incoming.command.meta
        bodies = self._bodies(incoming)
        if not self._fits(incoming, meta, bodies):
            bodies = [Refused(code="too_large", reason="What this command leads to is too large for one append: send less.")]
        return self._record(incoming, meta, bodies)

    def lost(self, first: int, last: Position, now: datetime) -> list[Outgoing]:
        """The record of a hole that retention made in the commands topic (rule 5)."""
        meta = CommandMeta(id=_id_of(last, "lost"), aggregate_id="", tenant="", actor=PLATFORM, time=now)
        return self._record(Incoming(last, None), meta, [CommandsLost(first_offset=first, last_offset=last.offset)])

    def voided(self, offset: int, reason: str, actor: str, now: datetime) -> list[Outgoing]:
        """The record by which an operator takes an unreadable one out of the chain (rule 9). Its place is the last command's."""
        last = self.applied or Position(epoch="", partition=self.number, offset=-1)
        meta = CommandMeta(id=_id_of(last, "void", offset), aggregate_id="", tenant="", actor=actor, time=now)
        return self._record(Incoming(last, None), meta, [RecordVoided(offset=offset, reason=reason)])

    def _bodies(self, incoming: Incoming) -> list[Any]:
        command, meta = incoming.command, incoming.command.meta
        if not _at_home(meta.aggregate_id, self.number):
            return [Refused(code="misrouted", reason=f"Partition {self.number} does not own this id.", usage=billed(command))]
        if incoming.time != NEVER and not timely(meta.time, incoming.time):
            return [Refused(code="untimely", reason=UNTIMELY)]
        aggregate = self.aggregate(meta.aggregate_id)
        if refused := aggregate.refusal(command, self.noun):
            return [refused]
        decided = self.noun.decide(aggregate.state, command)
        if isinstance(decided, Refusal):
            usage = None if decided.charged else billed(command)
            return [Refused(code=decided.code, reason=decided.reason, usage=usage)]
        return decided

    def _fits(self, incoming: Incoming, meta: CommandMeta, bodies: list[Any]) -> bool:
        """Records say what their command says and little more, so only those of a large one need to be measured."""
        if incoming.size < RECORD_LIMIT // 8:
            return True
        trials = [self.noun.event(meta=self._meta(incoming, meta, body, 0, 1), body=body) for body in bodies]
        return sum(len(self.codec.encode(trial)) + OVERHEAD for trial in trials) <= RECORD_LIMIT

    def _record(self, incoming: Incoming, command: CommandMeta, bodies: list[Any]) -> list[Outgoing]:
        """Encode the records that continue the chain, each folded before the next."""
        records = []
        for index, body in enumerate(bodies):
            event = self.noun.event(meta=self._meta(incoming, command, body, index, len(bodies)), body=body)
            value = self.codec.encode(event)
            self.take(event, value, self.head.next_offset)
            records.append(Outgoing(event, command.aggregate_id.encode(), value, self._headers(event, incoming.trace)))
        return records

    def _meta(self, incoming: Incoming, command: CommandMeta, body: Any, index: int, count: int) -> EventMeta:
        versioned = not isinstance(body, Refused | CommandsLost | RecordVoided)
        return EventMeta(
            id=_id_of(incoming.position, command.aggregate_id, command.id, index),
            aggregate_id=command.aggregate_id,
            version=self.aggregate(command.aggregate_id).version + 1 if versioned else None,
            sequence=self.head.sequence + 1,
            previous=self.head.digest,
            versions=self.head.versions + versioned,
            tenant=command.tenant,
            actor=command.actor,
            time=command.time,
            command_id=command.id,
            command=incoming.position,
            index=index,
            count=count,
            key_digest=command.key_digest,
            policy=command.policy,
            origin=self.origin,
        )

    def _headers(self, event: Any, trace: dict[str, str]) -> list[tuple[str, bytes]]:
        return headers(
            id=event.meta.id,
            kind=f"soma.{self.noun.name}.{type(event.body).__name__}",
            source=f"/{self.origin}/{self.noun.events}",
            subject=event.meta.aggregate_id,
            time=event.meta.time,
            trace=trace,
        )


def _id_of(position: Position, *parts: object) -> str:
    return derived_id(*parts, position.epoch, position.partition, position.offset)


def _at_home(id: str, partition: int) -> bool:
    try:
        return partition_of(id) == partition
    except ValueError:
        return False


def _unproven(incoming: Incoming) -> CommandMeta:
    """Its place and nothing else: who could not sign it gets nothing on record, not for an aggregate nor in anybody's name."""
    return CommandMeta(id=_id_of(incoming.position, "unproven"), aggregate_id="", tenant="", actor=PLATFORM, time=incoming.time)


def _unreadable(incoming: Incoming) -> CommandMeta:
    """What the place of a command says about it, where its bytes say nothing."""
    key = incoming.key.decode("utf-8", "replace")
    aggregate = key if _at_home(key, incoming.position.partition) else ""
    id = _id_of(incoming.position, "unreadable")
    return CommandMeta(id=id, aggregate_id=aggregate, tenant="", actor=PLATFORM, time=incoming.time)
