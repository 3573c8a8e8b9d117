"""Histories for tests: records as a worker would append them, made by the real decider, chain and codec, without a worker."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import Producer

from schemas.codec import Codec
from schemas.ids import derived_id, new_id
from schemas.types.common import CommandMeta, Position, Sealed, Usage
from schemas.types.session import CloseSession, PostMessage, RecordReply, SessionEvent, StartSession
from streams.noun import Noun
from streams.partition import Incoming, Partition
from streams.session import SESSION

EVENTS = "soma.session.events"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Written(NamedTuple):
    """A record to produce."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class History:
    """What one partition's worker would have appended. `take` gives the records since the last time, `events` all that they say."""

    def __init__(
        self, codec: Codec[Any], partition: int = 0, *, tenant: str = "default", epoch: str = "test-epoch", noun: Noun = SESSION
    ) -> None:
        self.partition = Partition(noun, partition, codec, "test")
        self.tenant, self.epoch = tenant, epoch
        self.commands = 0
        self.events: list[Any] = []
        self._written: list[Written] = []

    def send(
        self, id: str, body: Any, *, tenant: str | None = None, command_id: str | None = None, key_digest: bytes | None = None
    ) -> list[Any]:
        """One command's records: its events, or a refusal."""
        position = Position(epoch=self.epoch, partition=self.partition.number, offset=self.commands)
        self.commands += 1
        time = BEGIN + timedelta(milliseconds=self.commands)
        meta = CommandMeta(
            id=command_id or derived_id("command", self.partition.number, self.commands),
            aggregate_id=id,
            tenant=tenant or self.tenant,
            actor="tester",
            time=time,
            key_digest=key_digest,
        )
        records = self.partition.decide(Incoming(position, self.partition.noun.command(meta=meta, body=body), id.encode()))
        self.partition.settle()
        self._written += [Written(record.key, record.value, record.headers) for record in records]
        self.events += [record.event for record in records]
        return [record.event for record in records]

    def start(self, text: str | Sealed | None = "hello", *, metadata: dict[str, str] | None = None) -> str:
        """A new session, with a first message that waits for its reply, or without. Its id."""
        id = new_id(self.partition.number)
        self.send(id, StartSession(model="echo", input=text, metadata=metadata or {}, reply_seconds=60, idle_seconds=3600))
        return id

    def reply(self, id: str, text: str | Sealed = "hello back") -> None:
        """The reply that the session waits for."""
        request = self.partition.peek(id).state.request
        usage = Usage(input_tokens=3, output_tokens=2)
        self.send(id, RecordReply(request=request, attempt="a1", content=text, finish_reason="stop", usage=usage))

    def session(self, turns: int = 1, *, close: bool = False, metadata: dict[str, str] | None = None) -> str:
        """A session of so many turns. Its id."""
        id = self.start(metadata=metadata)
        self.reply(id)
        for turn in range(1, turns):
            self.send(id, PostMessage(input=f"turn {turn}"))
            self.reply(id, f"answer {turn}")
        if close:
            self.send(id, CloseSession())
        return id

    def take(self) -> list[Written]:
        written, self._written = self._written, []
        return written


def make_history(sessions: int, codec: Codec[SessionEvent], partition: int = 0, *, turns: int = 1) -> list[Written]:
    """The records of so many sessions: 4 + 3 × (turns - 1) each."""
    history = History(codec, partition)
    for number in range(sessions):
        history.session(turns, metadata={"number": str(number % 10)})
    return history.take()


def produce(bootstrap: str, records: list[Written], partition: int = 0, *, topic: str = EVENTS) -> None:
    """Append the records, in order, and wait until they are there."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    for record in records:
        while True:
            try:
                producer.produce(topic, record.value, record.key, partition, headers=list(record.headers))
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0, "the broker did not take the records"
