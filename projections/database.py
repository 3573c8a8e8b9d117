"""How PostgreSQL is reached. A connection's search_path chooses the generation of the read model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ops.settings import NotConfigured, Settings
from projections import isolation

SERVED, NEXT, FORMER = "read_model", "read_model_next", "read_model_former"
"""Generations of the read model, each a schema."""
MIGRATING, GENERATIONS = 7_265_001, 7_265_002
"""Names of advisory locks: numbers that nobody else uses."""
DERIVED = "-csynchronous_commit=off"
"""Rows and position are written together and come from the log: a crash that loses the last commits loses both, and they are read again."""


class Busy(RuntimeError):
    """The generations are being looked at or exchanged by somebody else."""


def url(settings: Settings) -> str:
    """DATABASE_URL. Raises NotConfigured."""
    if not settings.database_url:
        raise NotConfigured("DATABASE_URL is not set: name a PostgreSQL database, or run `soma up`, which starts one.")
    return settings.database_url


@contextmanager
def engine(url: str, schema: str = SERVED, *, options: str = "") -> Iterator[Engine]:
    """A blocking engine whose statements run in `schema`."""
    engine = create_engine(_driver(url), connect_args=arguments(schema, options), pool_size=1, max_overflow=1, hide_parameters=True)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def kept(engine: Engine, *, exclusively: bool) -> Iterator[None]:
    """While entered no generation takes another's place; exclusively: but by the one who entered. Raises Busy."""
    take = "pg_try_advisory_lock" if exclusively else "pg_try_advisory_lock_shared"
    with engine.connect() as connection:
        if not connection.scalar(text(f"SELECT {take}(:name)"), {"name": GENERATIONS}):
            raise Busy("A `soma rebuild` or `soma verify` works on this read model: wait for it.")
        connection.commit()
        try:
            yield
        finally:  # said outright: a session's end reaches its locks only some time after its client has gone
            connection.execute(text("SELECT pg_advisory_unlock_all()"))


def async_engine(url: str, *, pool: int, statement_seconds: int, options: str = "", autocommit: bool = False) -> AsyncEngine:
    """An engine for the served generation, with at most `pool` connections and bounded statements; `autocommit`: who uses it says BEGIN."""
    limits = f"-cstatement_timeout={statement_seconds * 1000} -cidle_in_transaction_session_timeout=60000 {options}"
    return create_async_engine(
        _driver(url),
        connect_args=arguments(SERVED, limits),
        isolation_level="AUTOCOMMIT" if autocommit else None,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=statement_seconds,
        hide_parameters=True,  # what people wrote does not belong into logs
    )


def plain(url: str) -> str:
    """The address as libpq takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def migrate(url: str, schema: str = SERVED) -> None:
    """Bring a generation's tables up to this release, from nothing if need be. Safe to run several times at once. Raises NoReader."""
    from alembic import command  # slow to import, and needed by nobody else
    from alembic.config import Config

    with engine(url, schema) as one, one.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": MIGRATING})
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        isolation.isolate(connection, schema)


def _driver(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+psycopg")


def arguments(schema: str = SERVED, options: str = "") -> dict[str, Any]:
    """Arguments of a connection to one generation."""
    return {
        "options": f"-csearch_path={schema} {options}",
        "application_name": "soma",
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,  # ms: a host that vanished is noticed within bounded time
    }
