"""What the processors of a noun share: the ways to the log, and who runs effects."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ops import metrics
from ops.log import Log, Record
from schemas.codec import Codec, headers
from schemas.registry import Registry
from schemas.signing import Keys
from schemas.types.common import CommandMeta
from streams.aggregate import Outline
from streams.noun import Noun
from streams.partition import PLATFORM, Outgoing

log = logging.getLogger("soma.worker")
APPEND_SECONDS = 5.0
DEAD_LETTER = "soma.dead-letter"


class Halt(Exception):
    """A rule of the record cannot be kept here: the process ends rather than guesses, and is started anew."""


class Effects(Protocol):
    """Runs what states wait for: the orchestrator in a worker, a recorder in tests."""

    def seen(self, event: Any) -> None:
        """A record that this worker appended."""

    def want(self, partition: int, id: str, effect: Any, aggregate: Outline[Any], trace: dict[str, str]) -> None:
        """From now on the aggregate waits for `effect`; None: for nothing. Saying it again changes nothing."""

    def release(self, partition: int) -> None:
        """Another worker may own this partition now: stop what runs for it."""


class Nothing:
    """The Effects of a noun whose states wait for nothing but the clock."""

    def seen(self, event: Any) -> None: ...

    def want(self, partition: int, id: str, effect: Any, aggregate: Outline[Any], trace: dict[str, str]) -> None: ...

    def release(self, partition: int) -> None: ...


class Both:
    """The Effects of a noun whose states wait for effects of two kinds: those of `kind` are the first one's."""

    def __init__(self, kind: type[Any], first: Effects, second: Effects) -> None:
        self._kind, self._first, self._second = kind, first, second

    def seen(self, event: Any) -> None:
        self._first.seen(event)
        self._second.seen(event)

    def want(self, partition: int, id: str, effect: Any, aggregate: Outline[Any], trace: dict[str, str]) -> None:
        mine = isinstance(effect, self._kind)
        self._first.want(partition, id, effect if mine else None, aggregate, trace)
        self._second.want(partition, id, None if mine else effect, aggregate, trace)

    def release(self, partition: int) -> None:
        self._first.release(partition)
        self._second.release(partition)


class Rounds:
    """Lets the partitions of a process append together, in rounds: who comes while one is under way waits for the next.

    So under load each takes what has gathered meanwhile, in few large groups; and where nobody appends, nobody waits.
    """

    def __init__(self) -> None:
        self._inside, self._next = 0, asyncio.Event()

    async def __aenter__(self) -> None:
        if self._inside:
            await self._next.wait()
        self._inside += 1

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._next.set()
            self._next = asyncio.Event()


async def codecs(noun: Noun, registry: Registry) -> tuple[Codec[Any], Codec[Any]]:
    """Those of the noun's commands and of its events. Raises NotRegistered."""
    commands = await asyncio.to_thread(registry.codec, noun.commands, noun.command)
    return commands, await asyncio.to_thread(registry.codec, noun.events, noun.event)


@dataclass(frozen=True)
class Services:
    """One a noun, for its codecs and effects; a process's nouns share all the rest.

    `producer` appends events and nothing else; `side` sends commands of the platform, snapshots, deltas, dead letters.
    """

    log: Log
    registry: Registry
    commands: Codec[Any]
    events: Codec[Any]
    producer: AIOKafkaProducer
    side: AIOKafkaProducer
    effects: Effects
    origin: str
    keys: Keys = field(default_factory=Keys)
    rounds: Rounds = field(default_factory=Rounds)

    async def know(self, noun: Noun, partition: int) -> None:
        """Returns once both producers know the partition: to one that is newer than their view of the topics they cannot send.

        Commands get their partitions last, so who knows those knows the others. Raises Halt.
        """
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                for producer, topic in ((self.producer, noun.events), (self.side, noun.commands)):
                    while partition not in await producer.partitions_for(topic):
                        await producer.client.force_metadata_update()
        except (TimeoutError, KafkaError) as error:
            raise Halt(f"{noun.commands}/{partition} is not known to the producers within {APPEND_SECONDS:.0f} s: {error!r}") from error

    async def append(self, noun: Noun, partition: int, records: list[Outgoing]) -> int:
        """Store the records as one batch, and give the offset of the first (rule 7).

        Raises Halt when the broker does not acknowledge in time: the batch may still be delivered, so nobody here may go on.
        """
        batch = self.producer.create_batch()
        for record in records:
            if batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None:
                raise Halt(f"{len(records)} records do not fit into one batch")
        batch.close()
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                acknowledgement = await self.producer.send_batch(batch, noun.events, partition=partition)
                return int((await acknowledgement).offset)
        except (TimeoutError, KafkaError) as error:
            raise Halt(f"{noun.events}/{partition}: an append was not acknowledged within {APPEND_SECONDS:.0f} s: {error!r}") from error

    async def send(self, noun: Noun, partition: int, id: str, command_id: str, tenant: str, body: Any, trace: dict[str, str]) -> None:
        """Put a command of the platform on the commands topic. Raises KafkaError."""
        now = datetime.now(UTC)
        meta = CommandMeta(id=command_id, aggregate_id=id, tenant=tenant, actor=PLATFORM, time=now)
        kind, source = f"soma.{noun.name}.{type(body).__name__}", f"/{self.origin}/worker"
        about = headers(id=command_id, kind=kind, source=source, subject=id, time=now, trace=trace)
        value = self.keys.sign(noun.commands, self.commands, noun.command(meta=meta, body=body))
        await self.side.send_and_wait(noun.commands, value, id.encode(), partition=partition, headers=about)

    async def dead_letter(self, noun: Noun, record: Record, reason: str) -> None:
        """Keep the original of what cannot be read, with its place and why, before anything is said of it (rule 9)."""
        metrics.dead_letters.labels(noun.commands).inc()
        place = f"{noun.commands}/{record.partition}/{record.offset}"
        log.warning("%s cannot be read (%s): kept in %s", place, reason, DEAD_LETTER)
        about = [*record.headers, ("soma_place", place.encode()), ("soma_reason", reason.encode())]
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                await self.side.send_and_wait(DEAD_LETTER, record.value, record.key, headers=about)
        except (TimeoutError, KafkaError) as error:
            raise Halt(f"{place} could not be put into {DEAD_LETTER}: {error!r}") from error
