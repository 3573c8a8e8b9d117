"""The first key: where callers have to sign in and nobody can yet, who can reach Kafka and has the pepper issues one past the gateway.

It is a command like any other: decided by a worker, and on record with the operator's name as its issuer.
"""

import getpass
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from confluent_kafka import Producer

from gateway.secret import Pepper, Wish
from ops import command_key, kafka, pepper
from ops.log import Log, LogUnavailable
from ops.settings import Settings
from schemas.codec import headers
from schemas.ids import derived_id, named_id, partition_of
from schemas.registry import Registry
from schemas.types.access import AccessCommand, AccessEvent, IssueKey, KeyIssued
from schemas.types.common import CommandMeta

COMMANDS, EVENTS = "soma.access.commands", "soma.access.events"
SEND_SECONDS = 10.0
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.1


class NotIssued(Exception):
    """There is no key; the message says why, and what to do."""


def bootstrap(settings: Settings, tenant: str, name: str, scopes: Sequence[str]) -> str:
    """Issue a key, and wait until that is on record. Its secret. Raises NotIssued, LogUnavailable, RegistryDown, NotRegistered."""
    if (root := pepper.load(settings)) is None:
        raise NotIssued("There is no pepper: set SOMA_KEYS_PEPPER as the gateways have it, or SOMA_DATA_DIR to where `soma up` runs.")
    made, wish = Pepper(root), Wish(tenant, f"operator:{getpass.getuser()}", "soma keys bootstrap", secrets.token_hex(16))
    key = made.key(wish)
    secret = made.secret(key, wish)
    body = IssueKey(key=key, name=name, hash=made.hash(secret), pepper=made.name, scopes=tuple(sorted(set(scopes))))
    id, registry, log = named_id(tenant, "access", key), Registry(kafka.registry(settings)), Log(kafka.confluent(settings))
    meta = CommandMeta(id=derived_id(*wish), aggregate_id=id, tenant=tenant, actor=wish.actor, time=datetime.now(UTC))
    since = log.bounds(EVENTS, partition_of(id))[1]
    signing = command_key.load(settings)
    _send(settings, signing.sign(COMMANDS, registry.codec(COMMANDS, AccessCommand), AccessCommand(meta=meta, body=body)), meta)
    _settled(registry, log, meta, since)
    return secret


def _send(settings: Settings, value: bytes, meta: CommandMeta) -> None:
    source = f"/{settings.soma_origin}/operator"
    about = headers(id=meta.id, kind="soma.access.IssueKey", source=source, subject=meta.aggregate_id, time=meta.time, trace={})
    producer = Producer({**kafka.confluent(settings), "enable.idempotence": True})
    producer.produce(
        COMMANDS, value, meta.aggregate_id.encode(), partition_of(meta.aggregate_id), headers=list[tuple[str, str | bytes | None]](about)
    )
    if producer.flush(SEND_SECONDS):
        raise LogUnavailable(f"Kafka did not take the command within {SEND_SECONDS:.0f} s. Check that it is up, then begin again.")


def _settled(registry: Registry, log: Log, meta: CommandMeta, since: int) -> None:
    """Returns when the command has become an event. Raises NotIssued."""
    codec, partition, deadline = registry.codec(EVENTS, AccessEvent), partition_of(meta.aggregate_id), time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for record in log.read(EVENTS, partition, since, log.bounds(EVENTS, partition)[1]):
            since = record.offset + 1
            event: AccessEvent = registry.decode(codec, record.value)
            if event.meta.command_id == meta.id and isinstance(event.body, KeyIssued):
                return
            if event.meta.command_id == meta.id:
                raise NotIssued(f"It was refused: {getattr(event.body, 'reason', event.body)}")
        time.sleep(LOOK_SECONDS)
    raise NotIssued(f"No worker decided it within {WAIT_SECONDS:.0f} s. Start one, revoke what may come of it, and begin again.")
