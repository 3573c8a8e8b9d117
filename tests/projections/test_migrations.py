"""The migrations make what tables.py says."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from projections import database
from projections.tables import metadata


def test_from_nothing_to_what_the_tables_say(postgres: str) -> None:
    # Given an empty database, and one that is up to date already
    for _ in range(2):
        # When
        database.migrate(postgres)
        # Then
        with database.engine(postgres) as engine, engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert [difference for difference in compare_metadata(context, metadata) if difference[1].name != "alembic_version"] == []


def test_generations_stand_side_by_side(postgres: str) -> None:
    # Given / when
    database.migrate(postgres, "read_model")
    database.migrate(postgres, "read_model_next")
    # Then
    with database.engine(postgres) as engine, engine.connect() as connection:
        found = connection.execute(text("SELECT schemaname FROM pg_tables WHERE tablename = 'sessions' ORDER BY 1"))
        assert [schema for (schema,) in found] == ["read_model", "read_model_next"]
