"""Fills one partition of a new generation from the log by COPY. Memory holds what folded rows are made from, and no records."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from ops.settings import Settings
from projections import database, position
from projections.fold import Fold
from projections.noun import Row
from projections.nouns import NOUNS
from projections.reading import Chain, Progress, Reading
from projections.source import Source, Step
from projections.tables import positions

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


class Copy(NamedTuple):
    """The generation to fill, and where each partition ends for it."""

    settings: Settings
    schema: str
    ends: dict[Chain, int]


def copy_partition(copy: Copy, chain: Chain, step: Step) -> Progress:
    """Fill in everything from the partition's beginning to its end. Raises ChainBroken, LogUnavailable, psycopg.Error."""
    reading = Reading(chain, Progress())
    records = Source(copy.settings).valid(reading, copy.ends[chain], step)
    url = database.plain(database.url(copy.settings))
    with psycopg.connect(url, **database.arguments(copy.schema, database.DERIVED)) as connection:
        for table, filled in Fold(NOUNS[chain.topic]).tables(records):
            _copy(connection, table, filled)
        _copy(connection, positions, [position.row(chain, reading.progress)])
    return reading.progress


def _copy(connection: psycopg.Connection[Any], table: Table, filled: Iterable[Row]) -> None:
    """Rows have the table's columns in the table's order. Binary: a third of the text format's cost, on both sides."""
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([column.type.compile(DIALECT).lower() for column in table.columns])
        for row in filled:
            copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in row.values()])
