"""Writes the record to a file for analysis."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ops.replay import Recorded, as_json

PARQUET_ROWS = 20_000


def write_jsonl(records: Iterator[Recorded], path: Path) -> int:
    """One JSON object a line. How many."""
    with path.open("wb") as out:
        return sum(bool(out.write(as_json(recorded) + b"\n")) for recorded in records)


COLUMNS = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("appended", pa.timestamp("ms", "UTC")),
        ("type", pa.string()),
        ("session_id", pa.string()),
        ("version", pa.int64()),
        ("sequence", pa.int64()),
        ("tenant", pa.string()),
        ("actor", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("event_id", pa.string()),
        ("command_id", pa.string()),
        ("command_offset", pa.int64()),
        ("body", pa.string()),
    ]
)


def write_parquet(records: Iterator[Recorded], path: Path) -> int:
    """A row a record, the body as JSON text. How many."""
    count = 0
    with pq.ParquetWriter(path, COLUMNS, compression="zstd") as out:
        while rows := [_row(recorded) for recorded in islice(records, PARQUET_ROWS)]:
            out.write_table(pa.Table.from_pylist(rows, COLUMNS))
            count += len(rows)
    return count


def _row(recorded: Recorded) -> dict[str, Any]:
    meta = recorded.event.meta
    return {
        "partition": recorded.place.partition,
        "offset": recorded.place.offset,
        "appended": recorded.appended,
        "type": type(recorded.event.body).__name__,
        "session_id": meta.aggregate_id,
        "version": meta.version,
        "sequence": meta.sequence,
        "tenant": meta.tenant,
        "actor": meta.actor,
        "time": meta.time,
        "event_id": meta.id,
        "command_id": meta.command_id,
        "command_offset": meta.command.offset,
        "body": msgspec.json.encode(recorded.event.body).decode(),
    }
