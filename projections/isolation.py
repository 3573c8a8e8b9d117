"""Tenants kept apart by the database, under the queries: row-level security (PostgreSQL, "Row Security Policies").

What serves callers reads as READER, who sees in every table with a column `tenant` the rows of one tenant: the one that the transaction
names in TENANT; where it names none, no row. Whoever owns the tables (the projector, rebuild, verify) is not held to it.
"""

from contextlib import suppress

from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

READER, TENANT = "soma_reader", "soma.tenant"
"""The role, which is the whole server's, and the setting that names the tenant."""
AS_READER = f"-crole={READER}"
"""Among the options of a connection: it begins as READER, and `RESET ROLE` leads back to that."""
POLICY = "own_tenant"

_MAY_BECOME = text("SELECT pg_has_role(current_user, oid, 'SET') FROM pg_roles WHERE rolname = :reader").bindparams(reader=READER)
_BYPASSES = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = :reader").bindparams(reader=READER)
_WITHOUT_POLICY = text(
    """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
    WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p')
    AND NOT (c.relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = :policy))"""
).bindparams(policy=POLICY)


class NoReader(RuntimeError):
    """READER is not there and cannot be made by this user, or no policy would hold it."""


def begin(tenant: str) -> str:
    """The statements that begin a transaction in which only this tenant's rows are there. Sent as one, they take one round trip."""
    name = sql.quote(tenant).replace("%", "%%")  # where psycopg sees one alone, it looks for a parameter
    return f"BEGIN READ ONLY; SET LOCAL {TENANT} = {name}"


def isolate(connection: Connection, schema: str) -> None:
    """Hold READER to one tenant in every table of a generation, whichever migration made it. Safe to run again. Raises NoReader.

    A table that is held already is not touched: its lock would make those who read it wait.
    """
    _make_reader(connection)
    for table in connection.scalars(_WITHOUT_POLICY, {"schema": schema}).all():
        connection.execute(text(f'ALTER TABLE "{schema}"."{table}" ENABLE ROW LEVEL SECURITY'))
        named = f"current_setting('{TENANT}', true)"
        connection.execute(text(f'CREATE POLICY {POLICY} ON "{schema}"."{table}" FOR SELECT TO {READER} USING (tenant = {named})'))
    connection.execute(text(f'GRANT USAGE ON SCHEMA "{schema}" TO {READER}'))
    connection.execute(text(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {READER}'))


def _make_reader(connection: Connection) -> None:
    """The migration of another database of this server may be doing the same: what counts is how it is afterwards."""
    if connection.scalar(_MAY_BECOME) is None:
        _attempt(connection, f"CREATE ROLE {READER} NOLOGIN")
    if not connection.scalar(_MAY_BECOME):
        _attempt(connection, f"GRANT {READER} TO CURRENT_USER")
    if not connection.scalar(_MAY_BECOME):
        user = connection.scalar(text("SELECT quote_ident(current_user)"))
        raise NoReader(
            f"The database's user {user} may not make the role {READER}, as which the gateway reads. Nothing was changed. Let one who may "
            f"create roles run `CREATE ROLE {READER} NOLOGIN` (once a server) and `GRANT {READER} TO {user}`, then run this again."
        )
    if connection.scalar(_BYPASSES):
        raise NoReader(f"No policy would hold the role {READER}. Run `ALTER ROLE {READER} NOSUPERUSER NOBYPASSRLS`, then run this again.")


def _attempt(connection: Connection, statement: str) -> None:
    with suppress(IntegrityError, ProgrammingError), connection.begin_nested():
        connection.execute(text(statement))
