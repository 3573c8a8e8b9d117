"""`soma events void`: takes a record that nobody can read out of the chain, by a record that says so (rule 9)."""

import getpass
from datetime import UTC, datetime

from confluent_kafka import Producer

from ops import kafka
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from schemas.codec import Unreadable
from schemas.registry import Registry
from streams.noun import Noun
from streams.partition import Partition

TIMEOUT = 10.0


class NotInDoubt(Exception):
    """There is no unreadable record at this offset that the chain waits for."""


def void(settings: Settings, noun: Noun, number: int, offset: int, reason: str) -> int:
    """Append the record that voids the one at `offset`. The offset of the new one.

    Raises NotInDoubt, ChainBroken (records were built on that one: only a release that reads it helps), LogUnavailable.
    """
    registry = Registry(kafka.registry(settings))
    log, codec = Log(kafka.confluent(settings)), registry.codec(noun.events, noun.event)
    partition = Partition(noun, number, codec, settings.soma_origin)
    for record in log.read(noun.events, number, 0, log.bounds(noun.events, number)[1]):
        try:
            partition.take(registry.decode(codec, record.value), record.value or b"", record.offset)
        except Unreadable:
            partition.head = partition.head.pass_unreadable(record.offset)
    if partition.head.doubt != offset:
        raise NotInDoubt(f"{noun.events}/{number} does not wait for offset {offset}, but for {partition.head.doubt}: nothing was done.")
    [voided] = partition.voided(offset, reason, f"operator:{getpass.getuser()}", datetime.now(UTC))
    producer = Producer({**kafka.confluent(settings), "enable.idempotence": True})
    producer.produce(noun.events, voided.value, voided.key, number, headers=list[tuple[str, str | bytes | None]](voided.headers))
    if producer.flush(TIMEOUT):
        raise LogUnavailable(f"Kafka did not take the record within {TIMEOUT:.0f} s: look whether it is there before you try again.")
    return partition.head.next_offset - 1
