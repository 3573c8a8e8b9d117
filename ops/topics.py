"""Makes the topics what topics.yaml says: creates, raises partitions; never lowers, never deletes."""

from collections.abc import Iterator
from datetime import UTC, datetime

from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from ops import kafka
from ops.log import LogUnavailable
from ops.settings import Settings
from schemas.codec import Codec
from schemas.contract import Topic, topics
from schemas.registry import Registry
from schemas.types.common import LayoutChanged

LAYOUT = "soma.layout"
DAY_MS = 86_400_000
TIMEOUT = 30.0
STAMP, BROKER = "message.timestamp.type", "LogAppendTime"
"""When a command came is for the broker to say, not for whoever sends it (`streams.aggregate.timely`)."""


def apply(settings: Settings, registry: Registry) -> Iterator[str]:
    """Bring the cluster's topics up to date, one line of what was done for each.

    The numbers of partitions are put on record in soma.layout before commands can use them (rule 3).
    Raises LogUnavailable, NotRegistered.
    """
    admin = AdminClient(kafka.confluent(settings))
    there = {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=TIMEOUT).topics.items()}
    codec: Codec[LayoutChanged] | None = None
    for name, topic in topics().items():
        wanted, has = _partitions(topic, settings), there.get(name)
        if has is not None and has >= wanted:
            yield f"{name}: {has} partitions, unchanged"
            continue
        if topic.partitions == "scaled":
            codec = codec or registry.codec(LAYOUT, LayoutChanged)
            _put_on_record(settings, codec, LayoutChanged(topic=name, partitions=wanted, former=has, time=datetime.now(UTC)))
        if has is None:
            admin.create_topics([_new(name, topic, settings)], operation_timeout=TIMEOUT)[name].result(TIMEOUT)
            yield f"{name}: created with {wanted} partitions"
        else:
            admin.create_partitions([NewPartitions(name, wanted)], operation_timeout=TIMEOUT)[name].result(TIMEOUT)
            yield f"{name}: raised from {has} to {wanted} partitions"
    yield from _stamped(admin, [name for name in topics() if _holds_commands(name) and name in there])


def _partitions(topic: Topic, settings: Settings) -> int:
    return settings.kafka_cfg_num_partitions if topic.partitions == "scaled" else topic.partitions


def _holds_commands(name: str) -> bool:
    return name.endswith(".commands")


def _stamped(admin: AdminClient, names: list[str]) -> Iterator[str]:
    """Commands topics of an earlier release let whoever sends a command say when it came: no more."""
    if not names:
        return
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {resource.name: future.result(TIMEOUT) for resource, future in admin.describe_configs(resources).items()}
    change = ConfigEntry(STAMP, BROKER, incremental_operation=AlterConfigOpType.SET)
    others = [name for name, config in found.items() if config[STAMP].value != BROKER]
    wanted = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change]) for name in others]
    for resource, done in (admin.incremental_alter_configs(wanted) if wanted else {}).items():
        done.result(TIMEOUT)
        yield f"{resource.name}: the broker says when a command came"


def _new(name: str, topic: Topic, settings: Settings) -> NewTopic:
    config = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": "-1" if topic.retention == "forever" else str(topic.retention * DAY_MS),
        "compression.type": topic.compression,
        "max.message.bytes": str(1 << 20),
    }
    if _holds_commands(name):
        config[STAMP] = BROKER
    if topic.cleanup == "compact":
        config |= {"segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "0.3"}
    return NewTopic(name, _partitions(topic, settings), settings.kafka_replication_factor, config=config)


def _put_on_record(settings: Settings, codec: Codec[LayoutChanged], change: LayoutChanged) -> None:
    producer = Producer({**kafka.confluent(settings), "enable.idempotence": True})
    producer.produce(LAYOUT, codec.encode(change), change.topic.encode())
    if producer.flush(TIMEOUT):
        raise LogUnavailable(f"{LAYOUT} did not take the new number of partitions of {change.topic} within {TIMEOUT:.0f} s: run it again.")
