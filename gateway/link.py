"""The gateway's way to write: one idempotent producer, and a view of whether Kafka answers that is at most a few seconds old."""

import asyncio
import logging
from collections.abc import Callable
from typing import Never

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway.problems import NothingSent

log = logging.getLogger("soma.gateway")
ACK_SECONDS = 4.0
"""A write that is not acknowledged within this time is answered: the outcome is unknown."""
PROBE_SECONDS = 1.0
PROBE_TIMEOUT = 2.0


class NotAcknowledged(Exception):
    """It was handed to Kafka, and may or may not be stored, now or later."""


class Link:
    """`up` is whether Kafka answered the last time it was asked, which is every second; `detail` says more."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._started = asyncio.Event()
        self._error: KafkaError | None = None
        self.when_down: list[Callable[[], None]] = []
        self.up, self.detail = False, "not connected yet"

    async def run(self) -> Never:
        """Connect, however long that takes, and go on asking whether Kafka is there. Raises KafkaError once the producer is spoilt."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(KafkaError),
            wait=wait_exponential_jitter(multiplier=0.2, max=PROBE_TIMEOUT),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(self._producer.start)
        self._started.set()
        while self._error is None:
            await self._probe()
            await asyncio.sleep(PROBE_SECONDS)
        raise self._error

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has, as of the last probe. Waits for the connection. Raises TimeoutError where there is none."""
        await self._started.wait()
        async with asyncio.timeout(PROBE_TIMEOUT):
            return len(await self._producer.partitions_for(topic))

    async def send(self, topic: str, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> int:
        """The offset at which Kafka has stored it. Raises NothingSent, or NotAcknowledged, within ACK_SECONDS.

        Any error but time is one from which this producer does not recover: `run` ends with it.
        """
        if not self.up:
            raise NothingSent(f"Kafka does not answer ({self.detail}): nothing was sent.")
        appended = None
        try:
            async with asyncio.timeout(ACK_SECONDS):
                # Cancelled while it waits for room, the producer has taken nothing; afterwards nothing calls the record back.
                appended = await self._producer.send(topic, value, key, partition, headers=headers)
                return int((await asyncio.shield(appended)).offset)
        except TimeoutError:
            if appended is None:
                raise NothingSent("Kafka takes no more at the moment: nothing was sent.") from None
            appended.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it any more
            raise NotAcknowledged from None
        except KafkaError as error:
            self._error = error
            if appended is None:
                raise NothingSent(f"Kafka did not take it: nothing was sent. {error}") from error
            raise NotAcknowledged from error

    async def close(self) -> None:
        """Hand over what is left, for a moment only: whoever waited for it has been told that its outcome is unknown."""
        try:
            async with asyncio.timeout(ACK_SECONDS):
                await self._producer.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("what was sent last may not have reached Kafka: %r", error)

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                answered = await self._producer.client.force_metadata_update()
        except TimeoutError:
            answered = False
        if answered != self.up:
            log.log(logging.INFO if answered else logging.ERROR, "Kafka %s", "answers" if answered else "does not answer")
            for tell in self.when_down if self.up else ():
                tell()
        self.up, self.detail = answered, "answers" if answered else "no broker answers"
