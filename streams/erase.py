"""`soma erase`: destroys the keys of a subject's text, and puts on record that it was done, in the audit of the tenant."""

import getpass
from datetime import UTC, datetime

from confluent_kafka import Producer

from commands.audit import audit_id
from ops import command_key, kafka, seal
from ops.log import Log
from ops.settings import Settings
from schemas.codec import headers
from schemas.ids import new_id, partition_of
from schemas.registry import Registry
from schemas.types.audit import AuditCommand, Decision, NoteDecisions
from schemas.types.common import CommandMeta
from streams.audit import AUDIT

TIMEOUT = 10.0
ACTION = "subject.erase"


class NotRecorded(Exception):
    """The keys are destroyed, and Kafka did not take the record of it. The message says which."""


def erase(settings: Settings, tenant: str, subject: str) -> tuple[str, ...]:
    """The ids of the keys that are destroyed now; none where the subject had none, which is recorded too.

    What cannot be recorded is not begun. Raises BadSeal, KeysDown, BadKey, LogUnavailable, NotRegistered, NotRecorded.
    """
    keys = seal.keys(settings)
    if keys is None:
        raise seal.BadSeal("Sealing is off, so there is no key to destroy: set SOMA_SEAL as the platform has it.")
    codec, signing = Registry(kafka.registry(settings)).codec(AUDIT.commands, AUDIT.command), command_key.load(settings)
    Log(kafka.confluent(settings)).partitions(AUDIT.commands)
    destroyed = keys.destroy(tenant, subject)
    command = _noted(tenant, destroyed)
    meta = command.meta
    about = headers(
        id=meta.id,
        kind=f"soma.{AUDIT.name}.NoteDecisions",
        source=f"/{settings.soma_origin}/operator",
        subject=meta.aggregate_id,
        time=meta.time,
        trace={},
    )
    producer = Producer({**kafka.confluent(settings), "enable.idempotence": True})
    value, partition = signing.sign(AUDIT.commands, codec, command), partition_of(meta.aggregate_id)
    producer.produce(AUDIT.commands, value, meta.aggregate_id.encode(), partition, headers=list[tuple[str, str | bytes | None]](about))
    if producer.flush(TIMEOUT):
        raise NotRecorded(f"Destroyed: {', '.join(destroyed) or 'nothing'}. Kafka did not take the record of it: run it again.")
    return destroyed


def _noted(tenant: str, destroyed: tuple[str, ...]) -> AuditCommand:
    """By the ids of the keys, which tell nothing of the subject: whoever names it can find out that they were its own."""
    now, actor, id = datetime.now(UTC), f"operator:{getpass.getuser()}", new_id(0)
    decision = Decision(
        id=id,
        time=now,
        actor=actor,
        kind="operator",
        action=ACTION,
        resource="subject",
        resource_id=destroyed[-1].partition(".")[0] if destroyed else None,
        outcome="allowed",
        reasons=tuple(f"key {each} was destroyed" for each in destroyed),
        method="",
    )
    meta = CommandMeta(id=id, aggregate_id=audit_id(tenant), tenant=tenant, actor=actor, time=now)
    return AuditCommand(meta=meta, body=NoteDecisions(source=f"operator-{id}", number=1, decisions=(decision,)))
