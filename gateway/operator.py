"""Past the gateway, into the log: what somebody does who can reach Kafka, where no gateway lets anybody in.

It is a command like any other: signed, decided by a worker, and on record with the operator's name.
"""

import getpass
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import Producer

from ops import command_key, kafka
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from schemas.codec import headers
from schemas.ids import named_id, partition_of
from schemas.registry import Registry
from schemas.types.common import CommandMeta, Refused

SEND_SECONDS = 10.0
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.1


class NotDone(Exception):
    """The message says why, and what to do."""


class Order(NamedTuple):
    """What an operator asks of the noun's aggregate `name`. `id`: the command's. `command`, `event`: types of the topics' values."""

    noun: str
    name: str
    id: str
    tenant: str
    body: Any
    command: type[Any]
    event: type[Any]


def who() -> str:
    """The operator, as the record names them."""
    return f"operator:{getpass.getuser()}"


def decided(settings: Settings, order: Order) -> Any:
    """The event that the order has led to, or the refusal. Raises NotDone, LogUnavailable, RegistryDown, NotRegistered."""
    id, registry, log = named_id(order.tenant, order.noun, order.name), Registry(kafka.registry(settings)), Log(kafka.confluent(settings))
    meta = CommandMeta(id=order.id, aggregate_id=id, tenant=order.tenant, actor=who(), time=datetime.now(UTC))
    topic, events = f"soma.{order.noun}.commands", f"soma.{order.noun}.events"
    since = log.bounds(events, partition_of(id))[1]
    value = command_key.load(settings).sign(topic, registry.codec(topic, order.command), order.command(meta=meta, body=order.body))
    _send(settings, topic, value, meta, f"soma.{order.noun}.{type(order.body).__name__}")
    return _settled(registry, log, registry.codec(events, order.event), events, meta, since)


def _send(settings: Settings, topic: str, value: bytes, meta: CommandMeta, kind: str) -> None:
    source = f"/{settings.soma_origin}/operator"
    about = headers(id=meta.id, kind=kind, source=source, subject=meta.aggregate_id, time=meta.time, trace={})
    producer = Producer({**kafka.confluent(settings), "enable.idempotence": True})
    producer.produce(
        topic, value, meta.aggregate_id.encode(), partition_of(meta.aggregate_id), headers=list[tuple[str, str | bytes | None]](about)
    )
    if producer.flush(SEND_SECONDS):
        raise LogUnavailable(f"Kafka did not take the command within {SEND_SECONDS:.0f} s. Check that it is up, then begin again.")


def _settled(registry: Registry, log: Log, codec: Any, topic: str, meta: CommandMeta, since: int) -> Any:
    """What the command has become. Raises NotDone."""
    partition, deadline = partition_of(meta.aggregate_id), time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for record in log.read(topic, partition, since, log.bounds(topic, partition)[1]):
            since = record.offset + 1
            event = registry.decode(codec, record.value)
            if event.meta.command_id == meta.id:
                return event.body
        time.sleep(LOOK_SECONDS)
    raise NotDone(f"No worker decided it within {WAIT_SECONDS:.0f} s. Start one, and look what became of it before you begin again.")


def refused(body: Any) -> str | None:
    """Why it was refused, if it was."""
    return body.reason if isinstance(body, Refused) else None
