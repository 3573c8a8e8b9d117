"""Looks at a read model as a whole."""

from typing import Any

from sqlalchemy import select, text

from ops.settings import Settings
from projections import database
from projections.tables import events, positions, sessions, usage

Contents = dict[str, list[tuple[Any, ...]]]


def contents(settings: Settings) -> Contents:
    """Every row of every table, in order."""
    with database.engine(database.url(settings)) as engine, engine.connect() as connection:
        return {
            "sessions": [tuple(row) for row in connection.execute(select(sessions).order_by(sessions.c.id))],
            "events": [tuple(row) for row in connection.execute(select(events).order_by(events.c.partition, events.c.offset))],
            "usage": [tuple(row) for row in connection.execute(select(usage).order_by(usage.c.id))],
            "positions": [tuple(row) for row in connection.execute(select(positions).order_by(positions.c.topic, positions.c.partition))],
        }


def run(settings: Settings, statement: str) -> None:
    """One statement of SQL in the served generation."""
    with database.engine(database.url(settings)) as engine, engine.begin() as connection:
        connection.execute(text(statement))


def generation(settings: Settings) -> int:
    """Changes when another generation is served."""
    with database.engine(database.url(settings)) as engine, engine.connect() as connection:
        return int(connection.scalar(text("SELECT 'sessions'::regclass::oid")) or 0)
