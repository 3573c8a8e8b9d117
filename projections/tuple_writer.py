"""Writes relations to OpenFGA: follows the events topics that tell of them, beside the projector of the read model.

How far each partition is written stands in the store itself, as a tuple that is exchanged in the transaction of what was read up to there.
So nothing is written twice and nothing left out (rule 10); a second writer, whose exchange fails, begins again from where the first one is;
and a store that is dropped and made anew is filled from the log's beginning.
"""

import asyncio
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from ops import fga, groups, kafka, metrics
from ops.fga import MAX_WRITE, OpenFga, OpenFgaDown, Tuple
from ops.settings import Settings
from projections.reading import Chain, Progress, Reading
from projections.tuples import changes, net
from schemas.chain import ChainBroken
from schemas.codec import Codec, Unreadable
from schemas.registry import Registry
from schemas.types.agent import AgentEvent
from schemas.types.relation import RelationEvent
from schemas.types.session import SessionEvent
from schemas.types.tool import ToolEvent

log = logging.getLogger("soma.projector")
TOPICS: dict[str, type[Any]] = {
    "soma.session.events": SessionEvent,
    "soma.tool.events": ToolEvent,
    "soma.agent.events": AgentEvent,
    "soma.relation.events": RelationEvent,
}
GROUP = groups.RELATIONS
BATCH = (MAX_WRITE - 2) // 3
"""Records taken in one go: none leads to more than three tuples."""
IDLE_MS = 200
LAZY = 1_000
"""Records that tell of no relation are accounted for when so many have passed."""
WRITE_SECONDS = 10.0


class Written(NamedTuple):
    """How far a partition is written, and the tuple that says so, if there is one."""

    progress: Progress
    said: Tuple | None


_retrying = AsyncRetrying(
    retry=retry_if_exception_type((OpenFgaDown, KafkaError)),
    wait=wait_exponential_jitter(multiplier=0.1, max=2),
    before_sleep=before_sleep_log(log, logging.WARNING),
)


class TupleWriter(ConsumerRebalanceListener):  # type: ignore[misc]
    """Writes what the partitions tell that its consumer is given. `codecs` are those of TOPICS."""

    def __init__(self, consumer: AIOKafkaConsumer, store: OpenFga, registry: Registry, codecs: dict[str, Codec[Any]]) -> None:
        self._consumer, self._store, self._registry, self._codecs = consumer, store, registry, codecs
        self._written: dict[Chain, Written] = {}
        self._readings: dict[Chain, Reading] = {}
        self._unread: set[Chain] = set()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget them all. What is being written stays right: a place is exchanged only for the one that is expected."""
        self._readings.clear()
        self._unread.clear()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Fetch nothing until the store has said where to go on."""
        self._consumer.pause(*assigned)
        self._unread.update(Chain(*place) for place in assigned)

    async def run(self) -> None:
        """Write until cancelled; after whatever Kafka or the server could not do, from where the store is then. Raises ChainBroken."""
        self._consumer.subscribe(list(TOPICS), listener=self)
        await _retrying(self._follow)

    async def _follow(self) -> None:
        self._consumer.pause(*self._consumer.assignment())
        self._unread |= self._readings.keys()
        at = await self._store.store()
        while True:
            if await self._store.store() != at:
                raise OpenFgaDown("OpenFGA has another store, or another model: beginning again from where that one is")
            await self._resume()
            for place, records in (await self._consumer.getmany(timeout_ms=IDLE_MS, max_records=BATCH)).items():
                if (chain := Chain(*place)) in self._readings:
                    await self._take(chain, records)

    async def _resume(self) -> None:
        """Go to where the store is, in each partition that is newly assigned or was left in the middle."""
        for chain in set(self._unread):
            said = await self._store.read(_log(chain), "reached")
            written = Written(_progress(said[0]), Tuple(said[0], "reached", _log(chain))) if said else Written(Progress(), None)
            place, position = TopicPartition(*chain), written.progress.head.next_offset
            end = (await self._consumer.end_offsets([place]))[place]
            if position > end:
                raise ChainBroken(
                    f"{chain} ends at offset {end}, but OpenFGA's store was written up to {position}: it was made from another log. "
                    "Remove the store, then run `soma prepare`: it is filled from this one."
                )
            if chain in self._unread:  # it may have been revoked meanwhile
                self._unread.remove(chain)
                self._written[chain], self._readings[chain] = written, Reading(chain, written.progress)
                self._consumer.seek(place, position)
                self._consumer.resume(place)

    async def _take(self, chain: Chain, records: Sequence[ConsumerRecord]) -> None:
        reading, told = self._readings[chain], list[Any]()
        for record in records:
            try:
                event = await self._registry.adecode(self._codecs[chain.topic], record.value)
            except Unreadable:
                event = None  # the read model's projector says so
            if reading.take(event, record.value or b"", record.offset) and event:
                told.append(event)
        changed = net(change for event in told for change in changes(event))
        before = self._written[chain]
        if changed or reading.progress.head.next_offset - before.progress.head.next_offset >= LAZY:
            await self._write(chain, changed, before, reading.progress)
            metrics.tuples_written.inc(len(changed))

    async def _write(self, chain: Chain, changed: dict[Tuple, bool], before: Written, reached: Progress) -> None:
        """In one transaction with the place. Raises Refused where another writer was here, or the store is not what it was."""
        said = Tuple(_user(reached), "reached", _log(chain))
        writes, deletes = [said, *_those(changed, holds=True)], _those(changed, holds=False)
        await self._store.write(writes, [*deletes, *([before.said] if before.said else [])])
        self._written[chain] = Written(reached, said)


async def serve(settings: Settings, registry: Registry) -> None:
    """Part of `soma projector` where OPENFGA_API_URL is set, until cancelled. Raises ChainBroken, NotRegistered."""
    codecs = {topic: await asyncio.to_thread(registry.codec, topic, event) for topic, event in TOPICS.items()}
    consumer = AIOKafkaConsumer(**kafka.consumer(settings), group_id=GROUP, auto_offset_reset="earliest")
    async with fga.client(settings, WRITE_SECONDS) as client:
        try:
            await _retrying(consumer.start)
            await TupleWriter(consumer, OpenFga(client, settings.openfga_store), registry, codecs).run()
        finally:
            await consumer.stop()


def _log(chain: Chain) -> str:
    return f"log:{chain}"


def _user(progress: Progress) -> str:
    return f"progress:{urlsafe_b64encode(msgspec.msgpack.encode(progress)).decode().rstrip('=')}"


def _progress(user: str) -> Progress:
    text = user.removeprefix("progress:")
    return msgspec.msgpack.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Progress)


def _those(changed: dict[Tuple, bool], *, holds: bool) -> list[Tuple]:
    return [each for each, so in changed.items() if so is holds]
