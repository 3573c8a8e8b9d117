"""What the read model's rows hold: one function a table."""

from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from projections.call import Call
from projections.reading import Progress, Taken
from projections.session import Summary
from schemas.chain import Head

Row = dict[str, Any]
_uuid = lru_cache(10_000)(UUID)
_decoder = msgspec.msgpack.Decoder(Summary)
_calls = msgspec.msgpack.Decoder(Call)


def event_row(taken: Taken) -> Row:
    """The row of `events`."""
    meta = taken.event.meta
    return {
        "partition": taken.partition,
        "offset": taken.offset,
        "session_id": taken.session_id and _uuid(taken.session_id),
        "tenant": storable(meta.tenant),
        "version": meta.version,
        "type": type(taken.event.body).__name__,
        "at": meta.time,
        "value": taken.value,
    }


def session_row(summary: Summary) -> Row:
    """The row of `sessions`."""
    error = summary.error
    return {
        "id": UUID(summary.id),
        "tenant": storable(summary.tenant),
        "partition": summary.partition,
        "status": summary.status,
        "outcome": summary.outcome,
        "model": storable(summary.model),
        "metadata": {storable(key): storable(value) for key, value in summary.metadata.items()},
        "version": summary.version,
        "messages": summary.messages,
        "error": error and {"code": storable(error.code), "reason": storable(error.reason)},
        "created_at": summary.created_at,
        "updated_at": summary.updated_at,
        "summary": msgspec.msgpack.encode(summary),
    }


def call_row(call: Call) -> Row:
    """The row of `calls`."""
    return {
        "id": UUID(call.id),
        "session_id": _uuid(call.session_id),
        "tenant": storable(call.tenant),
        "partition": call.partition,
        "tool": storable(call.tool),
        "status": call.status,
        "requested_at": call.requested_at,
        "entry": msgspec.msgpack.encode(call),
    }


def position_row(partition: int, progress: Progress) -> Row:
    """The row of `positions`."""
    head = progress.head
    return {
        "partition": partition,
        "next_offset": head.next_offset,
        "sequence": head.sequence,
        "digest": head.digest,
        "versions": head.versions,
        "void": head.void,
        "void_in_a_row": head.void_in_a_row,
        "epoch": progress.epoch,
        "command_offset": progress.command_offset,
    }


def progress(row: Row) -> Progress:
    """What a row of `positions` says."""
    head = Head(
        sequence=row["sequence"],
        digest=row["digest"],
        versions=row["versions"],
        next_offset=row["next_offset"],
        void=row["void"],
        void_in_a_row=row["void_in_a_row"],
    )
    return Progress(head, row["epoch"], row["command_offset"])


def summary(stored: bytes) -> Summary:
    """What the column `summary` says."""
    return _decoder.decode(stored)


def call(stored: bytes) -> Call:
    """What the column `entry` says."""
    return _calls.decode(stored)


def storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL: one from outside must not stop the projector."""
    return text.replace("\x00", "\ufffd")
