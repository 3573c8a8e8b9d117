"""Fills one partition of a new generation from the log by COPY. Memory holds the summaries of its sessions, and no events."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from ops.settings import Settings
from projections import database, rows
from projections.reading import Folded, Progress, Reading
from projections.rows import Row
from projections.source import Source, Step
from projections.tables import calls, events, positions, sessions

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


class Copy(NamedTuple):
    """The generation to fill, and where each partition ends for it."""

    settings: Settings
    schema: str
    ends: dict[int, int]


def copy_partition(copy: Copy, partition: int, step: Step) -> Progress:
    """Fill in everything from the partition's beginning to its end. Raises ChainBroken, LogUnavailable, psycopg.Error."""
    source, reading = Source(copy.settings), Reading(partition, Progress())
    folded = Folded({}, {})

    def event_rows() -> Iterator[Row]:
        for taken in source.valid(reading, copy.ends[partition], step):
            folded.take(taken)
            yield rows.event_row(taken)

    url = database.plain(database.url(copy.settings))
    with psycopg.connect(url, **database.arguments(copy.schema, database.DERIVED)) as connection:
        _copy(connection, events, event_rows())
        _copy(connection, sessions, map(rows.session_row, folded.summaries.values()))
        _copy(connection, calls, map(rows.call_row, folded.calls.values()))
        _copy(connection, positions, [rows.position_row(partition, reading.progress)])
    return reading.progress


def _copy(connection: psycopg.Connection[Any], table: Table, filled: Iterable[Row]) -> None:
    """Rows have the table's columns in the table's order. Binary: a third of the text format's cost, on both sides."""
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([column.type.compile(DIALECT).lower() for column in table.columns])
        for row in filled:
            copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in row.values()])
