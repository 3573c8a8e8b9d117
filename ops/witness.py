"""As of when a catalogue holds everything: the proof that what it says is not out of date."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Never

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ops.follow import Catalogue
from schemas.contract import topics

log = logging.getLogger("soma.witness")
PERIOD_SECONDS = 0.2
REQUEST_MS = 2_000
"""A connection on which nothing is heard for so long is given up for a new one."""


class Witness:
    """Asks Kafka for the end of the topic, and sees the catalogue reach it: then all is known that was recorded when the question was put.

    It is the time of the question that counts: an answer may lie about for long, in a network or before a process that stood still.
    It asks on a connection of its own, for on the catalogue's own one it would wait behind a fetch that waits for records. An end is
    what the partition's leader says; Kafka removes a leader that is cut off within `broker.session.timeout.ms`.
    """

    def __init__(self, catalogue: Catalogue[Any], arguments: Mapping[str, Any]) -> None:
        self._catalogue, self._arguments = catalogue, {**arguments, "request_timeout_ms": REQUEST_MS}
        self._as_of, self._proved = -math.inf, asyncio.Event()

    @property
    def age(self) -> float:
        """So many seconds ago all was known that was recorded by then; infinite where that was never seen."""
        return time.monotonic() - self._as_of

    async def within(self, age: float, patience: float) -> bool:
        """Whether `age` is at most so many seconds; waits for that at most `patience`, which spares callers a moment's delay."""
        return await self._until(lambda: self.age <= age, patience)

    async def since(self, moment: float, patience: float) -> bool:
        """Whether all is known that was recorded at `moment` (of `time.monotonic`); waits for that at most `patience` seconds."""
        return await self._until(lambda: self._as_of >= moment, patience)

    async def _until(self, true: Callable[[], bool], patience: float) -> bool:
        try:
            async with asyncio.timeout(patience):
                while not true():
                    await self._proved.wait()
        except TimeoutError:
            return true()
        return True

    async def run(self) -> Never:
        """Ask until cancelled. A Kafka that does not answer makes `age` grow, nothing else."""
        while True:
            consumer = AIOKafkaConsumer(**self._arguments, enable_auto_commit=False)
            try:
                await consumer.start()
                while True:
                    await self._ask(consumer)
                    await asyncio.sleep(PERIOD_SECONDS)
            except (KafkaError, TimeoutError) as error:
                log.debug("%s: its end cannot be had: %r", self._catalogue.subject.events, error)
                await asyncio.sleep(PERIOD_SECONDS)
            finally:
                await asyncio.gather(consumer.stop(), return_exceptions=True)

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        topic = self._catalogue.subject.events
        number = topics()[topic].partitions
        assert isinstance(number, int), "only topics that never grow are followed whole"
        asked = time.monotonic()
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in range(number)])
        await self._catalogue.reached({place.partition: end for place, end in ends.items()})
        self._as_of = asked
        self._proved.set()
        self._proved = asyncio.Event()
