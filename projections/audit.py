"""What the gate decided, as those see it who look after a tenant: a row a decision."""

from typing import Any

import msgspec
from msgspec import Struct

from commands.audit import PARTITIONS, audit_id
from projections.noun import Row
from projections.reading import Taken
from projections.text import rfc3339, storable
from schemas.types.audit import AuditEvent, Decision, DecisionsNoted

__all__ = ["COMMANDS", "EVENTS", "PARTITIONS", "Entry", "audit_id", "audit_rows", "document", "entries", "entry"]

COMMANDS, EVENTS = "soma.audit.commands", "soma.audit"


class Entry(Struct, frozen=True):
    """A decision on record: the `number`-th of its tenant, in the record at this place of the log."""

    tenant: str
    number: int
    partition: int
    offset: int
    decision: Decision


def entries(event: AuditEvent, partition: int, offset: int) -> list[Entry]:
    """The decisions that a record holds."""
    body = event.body
    if not isinstance(body, DecisionsNoted):
        return []
    return [Entry(event.meta.tenant, number, partition, offset, each) for number, each in enumerate(body.decisions, body.first)]


def audit_rows(taken: Taken) -> list[Row]:
    """The rows of `audit`."""
    if taken.id is None:
        return []
    return [_row(each, index) for index, each in enumerate(entries(taken.event, taken.chain.partition, taken.offset))]


def entry(stored: bytes) -> Entry:
    """What the column `entry` says."""
    return _decoder.decode(stored)


def document(entry: Entry) -> dict[str, Any]:
    """A decision, ready for JSON."""
    said = entry.decision
    return {
        "id": said.id,
        "number": entry.number,
        "place": f"e{entry.partition}-{entry.offset}",
        "at": rfc3339(said.time),
        "actor": said.actor,
        "kind": said.kind,
        "action": said.action,
        "resource": said.resource,
        "resource_id": said.resource_id,
        "outcome": said.outcome,
        "rule": said.rule,
        "version": said.version,
        "reasons": list(said.reasons),
        "request_id": said.request_id,
        "trace_id": said.trace_id,
        "method": said.method,
        "route": said.route,
        "remote": said.remote,
        "facts": said.facts and msgspec.json.decode(said.facts),
        "count": said.count,
        "first": said.first,
    }


_decoder = msgspec.msgpack.Decoder(Entry)


def _row(entry: Entry, index: int) -> Row:
    said = entry.decision
    return {
        "partition": entry.partition,
        "offset": entry.offset,
        "index": index,
        "tenant": storable(entry.tenant),
        "number": entry.number,
        "id": storable(said.id),
        "at": said.time,
        "actor": storable(said.actor),
        "action": storable(said.action),
        "outcome": storable(said.outcome),
        "resource": storable(said.resource),
        "resource_id": said.resource_id and storable(said.resource_id),
        "entry": msgspec.msgpack.encode(entry),
    }
