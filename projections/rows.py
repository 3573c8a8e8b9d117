"""What the rows of sessions, their events, their calls and what they used hold: one function a table."""

from functools import lru_cache
from uuid import UUID

import msgspec

from projections.call import Call
from projections.noun import Amounts, Row
from projections.reading import Taken
from projections.session import Summary, shown_text
from projections.text import storable, subject
from projections.usage import Line, Used
from schemas.ids import derived_id
from schemas.types.common import Sealed

_uuid = lru_cache(10_000)(UUID)
_decoder = msgspec.msgpack.Decoder(Summary)
_calls = msgspec.msgpack.Decoder(Call)


def event_rows(taken: Taken) -> list[Row]:
    """The one row of `events`."""
    meta = taken.event.meta
    row = {
        "partition": taken.chain.partition,
        "offset": taken.offset,
        "session_id": taken.id and _uuid(taken.id),
        "tenant": storable(meta.tenant),
        "version": meta.version,
        "type": type(taken.event.body).__name__,
        "at": meta.time,
        "value": taken.value,
    }
    return [row]


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
        "error": error and {"code": storable(error.code), "reason": _shown(error.reason)},
        "created_at": summary.created_at,
        "updated_at": summary.updated_at,
        "summary": msgspec.msgpack.encode(summary),
        "owner": storable(subject(summary.started_by)),
    }


def _shown(reason: str | Sealed) -> str | dict[str, str]:
    shown = shown_text(reason)
    return storable(shown) if isinstance(shown, str) else shown


def call_row(call: Call) -> Row:
    """The row of `calls`."""
    return {
        "id": UUID(call.id),
        "session_id": _uuid(call.session_id),
        "tenant": storable(call.tenant),
        "partition": call.partition,
        "tool": storable(call.tool),
        "status": call.status,
        "requested_at": call.listed_at,
        "entry": msgspec.msgpack.encode(call),
    }


def usage_row(line: Line, amounts: Amounts) -> Row:
    """The row of `usage`."""
    return {
        "id": UUID(derived_id(*line)),
        "tenant": storable(line.tenant),
        "partition": line.partition,
        "day": line.day,
        "model": storable(line.model),
        "tool": line.tool and storable(line.tool),
        **dict(zip(Used._fields, amounts, strict=True)),
    }


def summary(stored: bytes) -> Summary:
    """What the column `summary` says."""
    return _decoder.decode(stored)


def call(stored: bytes) -> Call:
    """What the column `entry` says."""
    return _calls.decode(stored)
