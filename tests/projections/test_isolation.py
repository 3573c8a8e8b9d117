"""Tenants are kept apart by the database: also under a query that forgets to ask for one."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import InternalError, ProgrammingError

from ops.embedded.postgres import Postgres
from projections import database
from projections.applied import Applied
from projections.database import NEXT, SERVED
from projections.isolation import POLICY, READER, NoReader, isolate
from projections.queries import Queries, ReadModelDown
from projections.session import EVENTS
from projections.tables import metadata
from schemas.types.session import PostMessage
from tests.history import History
from tests.projections.test_queries import CODEC, project

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
OF_NO_TENANT = {"positions", "alembic_version"}
"""Tables that say nothing of anybody. Another one needs a column `tenant`."""
TENANTS = text("SELECT DISTINCT tenant FROM events UNION SELECT tenant FROM sessions UNION SELECT tenant FROM calls ORDER BY 1")


@pytest.fixture
def two_tenants(postgres: str) -> str:
    """A read model with records of the tenants `default` and `another`."""
    database.migrate(postgres)
    history = History(CODEC)
    history.send(history.session(), PostMessage(input="let me in"), tenant="another")
    project(postgres, history)
    return postgres


@pytest_asyncio.fixture
async def queries(two_tenants: str) -> AsyncIterator[Queries]:
    queries = Queries.connect(two_tenants, pool=1)
    yield queries
    await queries.close()


async def seen(queries: Queries, tenant: str | None) -> list[str]:
    """The tenants whose rows a query finds that has no condition."""
    async with queries._connection(tenant) as connection:
        return list(await connection.scalars(TENANTS))


async def test_a_query_that_forgets_its_condition_shows_one_tenant_alone(queries: Queries) -> None:
    assert await seen(queries, "default") == ["default"]
    assert await seen(queries, "another") == ["another"]
    assert await seen(queries, "nobody") == []


async def test_without_a_tenant_there_is_no_row_also_on_a_connection_that_served_one(queries: Queries) -> None:
    assert await seen(queries, None) == []
    assert await seen(queries, "default") == ["default"]
    assert await seen(queries, None) == []
    assert (await queries.positions(EVENTS))[0].head.next_offset == 5


async def test_a_tenants_name_is_a_value_whatever_is_in_it(two_tenants: str, queries: Queries) -> None:
    # given one whose name has all that could be taken for something else
    odd, history = "50% of 'it'; \\ \"ö\" %s %(tenant)s :tenant", History(CODEC, 1)
    history.send(history.session(), PostMessage(input="let me in"), tenant=odd)
    project(two_tenants, history)
    # when / then
    assert await seen(queries, odd) == [odd]
    for name in ("", "default' OR true --", "default\x00", "%s", "default,another"):
        assert await seen(queries, name) == []


async def test_what_reads_cannot_write_and_does_not_get_out_by_a_reset(queries: Queries) -> None:
    for statement in ("DELETE FROM sessions", "UPDATE positions SET next_offset = 0", "ALTER TABLE sessions DISABLE ROW LEVEL SECURITY"):
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            async with queries._connection(None) as connection:
                await connection.execute(text(statement))
    with pytest.raises(InternalError, match="read-only transaction"):
        async with queries._connection("default") as connection:
            await connection.execute(text("DELETE FROM sessions"))
    async with queries._connection("default") as connection:
        await connection.execute(text("RESET ROLE"))
        assert list(await connection.scalars(TENANTS)) == ["default"]


async def test_the_owner_of_the_tables_sees_all_of_them(two_tenants: str) -> None:
    with database.engine(two_tenants) as engine, engine.connect() as connection:
        assert list(connection.scalars(TENANTS)) == ["another", "default"]


def test_every_table_of_every_generation_that_has_a_tenant_has_the_policy(postgres: str) -> None:
    # given
    for schema in (SERVED, NEXT):
        database.migrate(postgres, schema)
    with database.engine(postgres) as engine, engine.connect() as connection:
        # when
        found = connection.execute(
            text("""SELECT t.schemaname, t.tablename, t.rowsecurity AND p.policyname IS NOT NULL, p.qual, p.roles
                 FROM pg_tables t LEFT JOIN pg_policies p USING (schemaname, tablename) WHERE t.schemaname LIKE 'read_model%'""")
        ).all()
    # then
    assert {table for _, table, *_ in found} == {*metadata.tables, "alembic_version"}
    assert {(schema, table) for schema, table, held, *_ in found if not held} == {(s, t) for s in (SERVED, NEXT) for t in OF_NO_TENANT}
    assert {(qual, *roles) for *_, held, qual, roles in found if held} == {
        ("(tenant = current_setting('soma.tenant'::text, true))", READER)
    }


def test_a_table_that_a_later_release_adds_is_held_at_its_migration(postgres: str) -> None:
    # given
    database.migrate(postgres)
    with database.engine(postgres) as engine, engine.begin() as connection:
        connection.execute(text("CREATE TABLE later (tenant text); INSERT INTO later VALUES ('a'), ('b')"))
    # when
    database.migrate(postgres)
    # then
    with database.engine(postgres) as engine, engine.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {READER}; SET LOCAL soma.tenant = 'b'"))
        assert list(connection.scalars(text("SELECT tenant FROM later"))) == ["b"]
        connection.execute(text("RESET ROLE"))
        held = connection.scalar(text("SELECT count(*) FROM pg_policies WHERE policyname = :name"), {"name": POLICY})
        assert held == sum("tenant" in table.c for table in metadata.tables.values()) + 1


@pytest.fixture
def plain_user(postgres: str) -> Iterator[str]:
    """The address of the database, for an own user of it, who may make schemas in it and nothing else."""
    name, database_name = f"plain_{uuid.uuid4().hex}", urlsplit(postgres).path[1:]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'plain'")
        connection.execute(f"GRANT CREATE ON DATABASE {database_name} TO {name}")
        yield _as(postgres, name)
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def _as(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:plain@{parts.netloc.rpartition('@')[2]}").geturl()


async def test_a_user_who_may_not_make_roles_is_told_what_to_ask_for(postgres: str, plain_user: str) -> None:
    # given a role that another database of the server needed
    database.migrate(postgres, NEXT)
    user = urlsplit(plain_user).username
    # when
    with pytest.raises(NoReader, match=f"`CREATE ROLE {READER} NOLOGIN`.*`GRANT {READER} TO {user}`"):
        database.migrate(plain_user)
    # then nothing is there, and after what it says all of it is
    with database.engine(postgres) as engine, engine.begin() as connection:
        assert not connection.scalar(text(f"SELECT to_regnamespace('{SERVED}')"))
        connection.execute(text(f"GRANT {READER} TO {user}"))
    database.migrate(plain_user)
    history = History(CODEC)
    history.send(history.session(), PostMessage(input="let me in"), tenant="another")
    project(plain_user, history)
    queries = Queries.connect(plain_user)
    assert await seen(queries, "another") == ["another"]
    await queries.close()


@pytest_asyncio.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[str]:
    """A server on which nothing was made yet."""
    server = Postgres(tmp_path)
    await server.start()
    yield server.uri
    await server.stop()


async def test_two_databases_of_a_new_server_are_prepared_at_once(new_server: str) -> None:
    # given one migration that has made the role and is not through
    with psycopg.connect(new_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE second")
        with database.engine(new_server) as engine, engine.begin() as first:
            isolate(first, "public")
            # when another database's wants to make it too
            second = asyncio.create_task(asyncio.to_thread(_isolated, new_server.replace("/postgres?", "/second?")))
            while not connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
                await asyncio.sleep(0.01)
        # then
        await second
        assert connection.execute("SELECT rolname FROM pg_roles WHERE rolname = %s", [READER]).fetchall() == [(READER,)]


def _isolated(url: str) -> None:
    with database.engine(url) as engine, engine.begin() as connection:
        isolate(connection, "public")


async def test_a_database_that_this_release_has_not_prepared_is_not_read(new_server: str) -> None:
    # given a gateway that starts too early
    queries = Queries.connect(new_server)
    with pytest.raises(ReadModelDown, match="soma prepare"):
        await queries.positions(EVENTS)
    # when
    database.migrate(new_server)
    # then
    assert await queries.positions(EVENTS) == {}
    await queries.close()


def test_a_role_that_no_policy_holds_is_refused(new_server: str) -> None:
    with psycopg.connect(new_server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {READER} NOLOGIN BYPASSRLS")
    with pytest.raises(NoReader, match=f"ALTER ROLE {READER} NOSUPERUSER NOBYPASSRLS"):
        database.migrate(new_server)


async def test_a_gateways_own_user_as_the_page_makes_it_has_no_other_way_to_read(new_server: str) -> None:
    # given
    database.migrate(new_server)
    history = History(CODEC)
    history.send(history.session(), PostMessage(input="let me in"), tenant="another")
    project(new_server, history)
    [statements] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(new_server, autocommit=True) as connection:
        connection.execute(statements)
    url = new_server.replace("postgres@", "gateway@", 1)
    # when / then it reads, and hears how far the read model is
    queries = Queries.connect(url)
    assert await seen(queries, "another") == ["another"]
    async with Applied(url) as applied:
        assert await applied.event(EVENTS, 0, 4, 10)
    # when it gives up the role
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with queries._connection("another") as gateway:
            await gateway.execute(text("SET ROLE NONE"))
            await gateway.scalars(text("SELECT tenant FROM read_model.sessions"))
    await queries.close()
