"""Calls that run here while another executor has their partition: what ends them has to reach them all the same."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from commands.call import Running
from commands.situation import calls
from schemas.chain import IN_DOUBT, ChainBroken
from schemas.codec import Unreadable
from streams.attempt import Attempts
from streams.partition import Partition
from streams.services import Services
from streams.session import SESSION

log = logging.getLogger("soma.executor")
POLL_MS = 200


class Astray:
    """Follows partitions that went to another executor, each until the last call of it that runs here is over."""

    def __init__(self, id: str, services: Services, attempts: Attempts, kafka: dict[str, Any]) -> None:
        self._id, self._services, self._attempts, self._kafka = id, services, attempts, kafka
        self._following: dict[int, asyncio.Task[None]] = {}

    def follow(self, partitions: Iterable[Partition]) -> None:
        """Go on with those of which calls run here, from where they were read to."""
        for partition in partitions:
            if self._attempts.runs_in(partition.number) and partition.number not in self._following:
                task = asyncio.create_task(self._follow(partition), name=f"calls of partition {partition.number}")
                self._following[partition.number] = task
                task.add_done_callback(partial(self._done, partition.number))

    def leave(self, number: int) -> None:
        """The partition is read here again."""
        if task := self._following.pop(number, None):
            task.cancel()

    def close(self) -> None:
        for task in self._following.values():
            task.cancel()

    async def _follow(self, partition: Partition) -> None:
        consumer, place = AIOKafkaConsumer(**self._kafka, enable_auto_commit=False), TopicPartition(SESSION.events, partition.number)
        await consumer.start()
        try:
            consumer.assign([place])
            consumer.seek(place, partition.head.next_offset)
            while self._attempts.runs_in(partition.number):
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    self._keep(partition, await read(self._services, partition, records))
        finally:
            await consumer.stop()

    def _keep(self, partition: Partition, ids: Iterable[str]) -> None:
        """Of these sessions' calls those go on that are ours by the record."""
        for id in ids:
            ours = {call.call for call in calls(partition.peek(id).state) if isinstance(call, Running) and call.executor == self._id}
            self._attempts.keep(id, ours)

    def _done(self, number: int, task: "asyncio.Task[None]") -> None:
        if self._following.get(number) is task:
            del self._following[number]
        if not task.cancelled() and (error := task.exception()):
            log.error("%s are followed no more: a cancel reaches them at their deadline", task.get_name(), exc_info=error)


async def read(
    services: Services, partition: Partition, records: Sequence[ConsumerRecord], seen: Callable[[Any], object] = id
) -> list[str]:
    """Fold records as they came; `seen` is told of the valid ones. The sessions that they changed. Raises ChainBroken."""
    for record in records:
        if record.offset != partition.head.next_offset:
            raise ChainBroken(f"{SESSION.events}/{partition.number}: offset {record.offset} came where another is next.")
        try:
            event = await services.registry.adecode(services.events, record.value)
        except Unreadable as error:
            log.error("%s/%d: offset %d: %s. %s", SESSION.events, partition.number, record.offset, error, IN_DOUBT)
            partition.head = partition.head.pass_unreadable(record.offset)
            continue
        if partition.take(event, record.value or b"", record.offset):
            seen(event)
    return partition.settle()
