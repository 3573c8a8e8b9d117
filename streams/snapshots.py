"""States up to a watermark, in a compacted topic (rule 8): rows first, then the watermark that vouches for them.

A topic of our own rather than a Faust table: a table's changelog does not keep this order
(docs/decisions/0002-snapshots-in-a-topic-of-our-own.md).
"""

import asyncio
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from ops import failpoints
from ops.log import Log
from schemas.chain import Head
from schemas.types.common import Position
from streams.noun import Noun
from streams.partition import Partition

MARK = b"watermark"
"""Key of the watermark: no aggregate has this id."""


class Watermark(Struct, array_like=True, frozen=True):
    """The rows acknowledged before it hold every record up to `head`."""

    head: Head
    applied: Position | None
    fingerprint: str


def load(log: Log, noun: Noun, partition: Partition) -> bool:
    """Put the snapshot into an empty partition. False when there is none that this code can use. Blocks; raises LogUnavailable."""
    low, high = log.bounds(noun.snapshots, partition.number)
    rows: dict[str, bytes] = {}
    mark: Watermark | None = None
    for record in log.read(noun.snapshots, partition.number, low, high):
        if record.key == MARK:
            mark = msgspec.msgpack.decode(record.value or b"", type=Watermark)
        elif record.value is not None:
            rows[(record.key or b"").decode()] = record.value
    if mark is None or mark.fingerprint != noun.fingerprint():
        return False
    partition.rows, partition.head, partition.applied = rows, mark.head, mark.applied
    return True


class Snapshots:
    """Writes the rows that changed, lazily: nobody waits for them."""

    def __init__(self, noun: Noun, partition: Partition, producer: AIOKafkaProducer) -> None:
        self._noun, self._partition, self._producer = noun, partition, producer
        self.changed: set[str] = set()

    async def save(self) -> None:
        """Write what changed since the last time, if anything did. What fails is written with the next one; raises KafkaError."""
        if not self.changed:
            return
        partition, changed, self.changed = self._partition, self.changed, set()
        mark = Watermark(partition.head, partition.applied, self._noun.fingerprint())
        rows = [(id, partition.rows[id]) for id in changed]
        try:
            await asyncio.gather(*[await self._send(id.encode(), row) for id, row in rows])
            failpoints.reach("worker.snapshot")
            await (await self._send(MARK, msgspec.msgpack.encode(mark)))
        except BaseException:
            self.changed |= changed
            raise

    async def _send(self, key: bytes, value: bytes) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = await self._producer.send(self._noun.snapshots, value, key, partition=self._partition.number)
        return future
