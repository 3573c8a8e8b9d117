"""Reads topics as what they are: partitions of records, from one offset to another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

TIMEOUT = 10.0
BATCH = 2_000
_LEADERLESS = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


class LogUnavailable(RuntimeError):
    """Kafka did not answer in time, or no longer has what was asked for."""


class Record(NamedTuple):
    """One record as it lies in the log. `timestamp` is Kafka's, in milliseconds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: int


class Log:
    """`config` is what confluent-kafka takes. Calls block for at most TIMEOUT an answer, then raise LogUnavailable."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._admin = AdminClient(config)
        self._config = {
            **config,
            "group.id": "soma-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
        }

    def epoch(self, topic: str) -> str:
        """Kafka's id of the topic: another one after it was deleted and created again."""
        described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT)[topic]
        return str(_answer(described.result).topic_id)

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when there is none of this name."""
        found = _answer(lambda: self._admin.list_topics(topic, timeout=TIMEOUT)).topics[topic]
        return 0 if found.error else len(found.partitions)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one that the next record will get."""
        consumer = Consumer(self._config)
        try:
            low, high = _answer(lambda: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT))
            return low, high
        finally:
            consumer.close()

    def since(self, topic: str, partition: int, time: int) -> int:
        """The offset of the first record that was written at this time or later, in milliseconds; the partition's end if there is none."""
        consumer = Consumer(self._config)
        try:
            wanted = [TopicPartition(topic, partition, time)]
            [found] = _answer(lambda: consumer.offsets_for_times(wanted, timeout=TIMEOUT))
            return self.bounds(topic, partition)[1] if found.offset < 0 else int(found.offset)
        finally:
            consumer.close()

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """Records with start <= offset < end, in order. Offsets that compaction or retention removed are left out."""
        return (_record(message) for _, message in self._messages(topic, partition, start, end))

    def values(self, topic: str, partition: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """As `read`, but each record's offset and value alone, which takes a quarter of the time. An absent value is empty."""
        return ((offset, message.value() or b"") for offset, message in self._messages(topic, partition, start, end))

    def _messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[tuple[int, Message]]:
        if start >= end:
            return
        consumer = Consumer(self._config)
        try:
            low, high = _answer(lambda: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT))
            start, end = max(start, low), min(end, high)
            consumer.assign([TopicPartition(topic, partition, start)])
            while start < end:
                for message in self._batch(consumer, topic, partition, start):
                    if message.error():  # end of the partition: what was removed behind `start` will not come
                        start = end
                    elif (offset := message.offset() or 0) < end:
                        yield offset, message
                        start = offset + 1
                    else:
                        start = end
        finally:
            consumer.close()

    def read_at(self, topic: str, partition: int, offsets: Sequence[int]) -> Iterator[Record]:
        """The records at these offsets, which rise. Raises LogUnavailable when one is not there."""
        at = 0
        while at < len(offsets):
            wanted = set(offsets[at : at + BATCH])
            span = self.read(topic, partition, offsets[at], offsets[at] + BATCH)
            found = [record for record in span if record.offset in wanted]
            if not found:
                raise LogUnavailable(f"{topic}/{partition} does not hold offset {offsets[at]} any more")
            yield from found
            at += len(found)

    def _batch(self, consumer: Consumer, topic: str, partition: int, start: int) -> list[Message]:
        first = _answer(lambda: consumer.poll(TIMEOUT))
        # a message whose value is empty is false
        messages: list[Message] = [] if first is None else [first, *_answer(lambda: consumer.consume(BATCH, timeout=0))]
        if not messages:
            raise LogUnavailable(f"{topic}/{partition} gave nothing from offset {start} within {TIMEOUT:.0f} s: is Kafka up?")
        for message in messages:
            error = message.error()
            if error and error.code() != KafkaError._PARTITION_EOF:
                raise LogUnavailable(f"{topic}/{partition} cannot be read from offset {start}: {error.str()}")
        return messages


def _leaderless(error: BaseException) -> bool:
    """Whether the partition has no leader yet: so it is for a moment after a broker was started, or lost."""
    return isinstance(error, KafkaException) and error.args[0].code() in _LEADERLESS


_waiting = Retrying(retry=retry_if_exception(_leaderless), stop=stop_after_delay(TIMEOUT), wait=wait_fixed(0.1), reraise=True)


def _answer(call: Callable[[], Any]) -> Any:
    try:
        return _waiting(call)
    except KafkaException as error:
        raise LogUnavailable(f"Kafka did not answer: {error.args[0]}. Check KAFKA_BOOTSTRAP_SERVERS and that the broker is up.") from error


def _record(message: Message) -> Record:
    pairs: list[tuple[str, str | bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    headers = [(name, text if isinstance(text, bytes) else (text or "").encode()) for name, text in pairs]
    key, value = message.key(), message.value()
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        key.encode() if isinstance(key, str) else key,
        value.encode() if isinstance(value, str) else value,
        headers,
        message.timestamp()[1],
    )
