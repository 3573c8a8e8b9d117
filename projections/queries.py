"""What GETs ask of the read model. The tenant is a condition in every query that shows records, and the database holds each to it."""

import base64
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, and_, cast, func, literal, select, tuple_
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from projections import audit as auditing
from projections import budget, database, isolation, position, reach, rows, store
from projections.budget import Budget
from projections.call import Call
from projections.reach import Given, Thing
from projections.reading import Progress
from projections.session import Summary
from projections.tables import audited, budgets, calls, events, positions, sessions, usage
from projections.text import storable
from projections.usage import Entry, Used
from schemas.ids import partition_of

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
STATEMENT_SECONDS = 5


class ReadModelDown(Exception):
    """The database cannot be reached, or does not answer in time. It may again: ask later."""


class BadCursor(ValueError):
    """The cursor is none that a page gave."""


class Filters(Struct, frozen=True):
    """Which sessions a list shows: those that fit all of it."""

    status: str | None = None
    model: str | None = None
    metadata: dict[str, str] = {}
    created_after: datetime | None = None
    created_before: datetime | None = None


EVERY = Filters()


class Page(NamedTuple):
    """Newest first. `cursor` gives the next page; None: there is none."""

    sessions: list[Summary]
    cursor: str | None


class CallFilters(Struct, frozen=True):
    """Which entries of the ledger a list shows: those that fit all of it."""

    session_id: str | None = None
    tool: str | None = None
    status: str | None = None
    relation: str = "viewer"
    """What a caller whom the list is bounded by has to be to the calls' sessions."""


class CallPage(NamedTuple):
    """Newest first. `cursor` gives the next page; None: there is none."""

    calls: list[Call]
    cursor: str | None


class AuditFilters(Struct, frozen=True):
    """Which decisions a list shows: those that fit all of it. `since` is included, `until` is not."""

    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditPage(NamedTuple):
    """Newest first. `cursor` gives the next page; None: there is none."""

    entries: list[auditing.Entry]
    cursor: str | None


class Queries:
    """The queries, over a bounded pool of connections. Every one raises ReadModelDown within about STATEMENT_SECONDS."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def connect(cls, url: str, pool: int = 8) -> Self:
        """Connections are made when they are needed: this does not fail while the database is down."""
        return cls(database.async_engine(url, pool=pool, statement_seconds=STATEMENT_SECONDS, options=isolation.AS_READER, autocommit=True))

    async def close(self) -> None:
        await self._engine.dispose()

    async def events_of(self, session_id: str, tenant: str, after_offset: int = -1, limit: int = 1_000) -> list[tuple[int, bytes]]:
        """The session's records behind an offset of its partition, in order: each offset, and the value as it lies in the log."""
        if not _is_id(session_id):
            return []
        statement = (
            select(events.c.offset, events.c.value)
            .where(events.c.session_id == session_id, events.c.tenant == storable(tenant), events.c.offset > after_offset)
            .order_by(events.c.offset)
            .limit(limit)
        )
        async with self._connection(tenant) as connection:
            return [(offset, value) for offset, value in await connection.execute(statement)]

    async def session(self, session_id: str, tenant: str) -> Summary | None:
        """The session without its messages."""
        if not _is_id(session_id):
            return None
        statement = select(sessions.c.summary).where(sessions.c.id == session_id, sessions.c.tenant == storable(tenant))
        async with self._connection(tenant) as connection:
            found = await connection.scalar(statement)
            return found and rows.summary(found)

    async def at_work(self, tenant: str) -> list[str]:
        """The ids of the sessions that think or act. Reads through all of the tenant's: an index would cost every turn."""
        statement = select(sessions.c.id).where(sessions.c.tenant == storable(tenant), sessions.c.status.in_(("thinking", "acting")))
        async with self._connection(tenant) as connection:
            return [str(id) for id in await connection.scalars(statement)]

    async def roles(self, given: Given, thing: Thing) -> frozenset[str]:
        """The relations that the caller was given to the thing, and `owner`; none to a session that is not there."""
        if thing.kind == "session" and not _is_id(thing.id):
            return frozenset()
        async with self._connection(given.tenant) as connection:
            return frozenset(await connection.scalars(reach.roles(given, thing)))

    async def sessions(
        self, tenant: str, filters: Filters = EVERY, cursor: str | None = None, limit: int = 50, by: Given | None = None
    ) -> Page:
        """A page of sessions, newest first: of those that this caller may see, if one is named. Raises BadCursor."""
        newest = tuple_(sessions.c.created_at, sessions.c.id)
        statement = select(sessions.c.summary).where(sessions.c.tenant == storable(tenant), _fits(filters))
        if by:
            statement = statement.where(reach.holding(by, "viewer"))
        if cursor is not None:
            time, id = _place(cursor)
            statement = statement.where(newest < tuple_(time, literal(id, sessions.c.id.type)))
        statement = statement.order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit + 1)
        async with self._connection(tenant) as connection:
            found = [rows.summary(summary) for summary in await connection.scalars(statement)]
        return Page(found[:limit], _cursor(found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else None)

    async def calls(
        self, tenant: str, filters: CallFilters, cursor: str | None = None, limit: int = 50, by: Given | None = None
    ) -> CallPage:
        """A page of the ledger, newest first, of one reply the last: of sessions to which `by` has the relation. Raises BadCursor."""
        newest = tuple_(calls.c.requested_at, calls.c.id)
        statement = select(calls.c.entry).where(calls.c.tenant == storable(tenant))
        if by:
            statement = statement.join(sessions, sessions.c.id == calls.c.session_id).where(reach.holding(by, filters.relation))
        for column, wanted in ((calls.c.session_id, filters.session_id), (calls.c.tool, filters.tool), (calls.c.status, filters.status)):
            if wanted is not None:
                statement = statement.where(column == wanted)
        if cursor is not None:
            time, id = _place(cursor)
            statement = statement.where(newest < tuple_(time, literal(id, calls.c.id.type)))
        statement = statement.order_by(calls.c.requested_at.desc(), calls.c.id.desc()).limit(limit + 1)
        async with self._connection(tenant) as connection:
            found = [rows.call(entry) for entry in await connection.scalars(statement)]
        last = found[limit - 1] if len(found) > limit else None
        return CallPage(found[:limit], _cursor(last.listed_at, last.id) if last else None)

    async def budget(self, tenant: str) -> Budget | None:
        """The tenant's budget, if it was ever set or drawn from."""
        async with self._connection(tenant) as connection:
            found = await connection.scalar(select(budgets.c.entry).where(budgets.c.tenant == storable(tenant)))
            return found and budget.read(found)

    async def call(self, session_id: str, call_id: str, tenant: str) -> Call | None:
        """One entry of the ledger."""
        if not (_is_uuid(call_id) and _is_id(session_id)):
            return None
        statement = select(calls.c.entry).where(calls.c.id == call_id, calls.c.session_id == session_id, calls.c.tenant == storable(tenant))
        async with self._connection(tenant) as connection:
            found = await connection.scalar(statement)
            return found and rows.call(found)

    async def usage(self, tenant: str, since: date, until: date, by: Sequence[str], limit: int) -> list[Entry]:
        """What was used on these days, both among them: by `day`, `model` and `tool`, or some of them, in their order; at most so many."""
        of = [usage.c[name] for name in by]
        sums = [cast(func.sum(usage.c[name]), BigInteger) for name in Used._fields]
        statement = select(*of, *sums).where(usage.c.tenant == storable(tenant), usage.c.day.between(since, until))
        async with self._connection(tenant) as connection:
            found = await connection.execute(statement.group_by(*of).order_by(*of).limit(limit))
            return [Entry(dict(zip(by, row, strict=False)), Used(*row[len(by) :])) for row in found]

    async def audit(self, tenant: str, filters: AuditFilters, cursor: str | None = None, limit: int = 50) -> AuditPage:
        """A page of what the gate decided, newest first. Raises BadCursor."""
        statement = select(audited.c.entry).where(audited.c.tenant == storable(tenant), _decided(filters))
        if cursor is not None:
            statement = statement.where(audited.c.number < _number(cursor))
        statement = statement.order_by(audited.c.number.desc()).limit(limit + 1)
        async with self._connection(tenant) as connection:
            found = [auditing.entry(stored) for stored in await connection.scalars(statement)]
        return AuditPage(found[:limit], str(found[limit - 1].number) if len(found) > limit else None)

    async def decision(self, tenant: str, id: str) -> auditing.Entry | None:
        """One decision of the gate."""
        statement = select(audited.c.entry).where(audited.c.tenant == storable(tenant), audited.c.id == storable(id))
        async with self._connection(tenant) as connection:
            found = await connection.scalar(statement.order_by(audited.c.number).limit(1))
            return found and auditing.entry(found)

    async def positions(self, topic: str) -> dict[int, Progress]:
        """How far each partition of an events topic is applied."""
        async with self._connection(None) as connection:
            found = (await connection.execute(select(positions).where(positions.c.topic == topic))).mappings()
            return {row["partition"]: position.progress(dict(row)) for row in found}

    async def of_other_folds(self) -> list[str]:
        """The events topics whose rows were made by other code than this release's: they need a rebuild."""
        async with self._connection(None) as connection:
            return await connection.run_sync(store.of_other_folds)

    @asynccontextmanager
    async def _connection(self, tenant: str | None) -> AsyncIterator[AsyncConnection]:
        """A transaction in which only the tenant's rows are there; None: only what is of no tenant."""
        try:
            async with self._engine.connect() as connection:
                if tenant is not None:
                    await connection.exec_driver_sql(isolation.begin(storable(tenant)))
                yield connection
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            todo = "Check DATABASE_URL, that PostgreSQL is up, and that `soma prepare` was run."
            raise ReadModelDown(f"The read model does not answer. {todo}") from error


def _fits(filters: Filters) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if filters.status is not None:
        conditions.append(sessions.c.status == storable(filters.status))
    if filters.model is not None:
        conditions.append(sessions.c.model == storable(filters.model))
    if filters.metadata:
        conditions.append(sessions.c.metadata.contains({storable(key): storable(value) for key, value in filters.metadata.items()}))
    if filters.created_after is not None:
        conditions.append(sessions.c.created_at > filters.created_after)
    if filters.created_before is not None:
        conditions.append(sessions.c.created_at < filters.created_before)
    return and_(True, *conditions)


def _decided(filters: AuditFilters) -> ColumnElement[bool]:
    wanted = {name: getattr(filters, name) for name in ("actor", "action", "outcome", "resource", "resource_id")}
    conditions: list[ColumnElement[bool]] = [audited.c[name] == storable(text) for name, text in wanted.items() if text is not None]
    if filters.since is not None:
        conditions.append(audited.c.at >= filters.since)
    if filters.until is not None:
        conditions.append(audited.c.at < filters.until)
    return and_(True, *conditions)


def _number(cursor: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", cursor):
        raise BadCursor("This cursor is none that a list gave: begin without one.")
    return int(cursor)


def _cursor(time: datetime, id: str) -> str:
    """Opaque to callers: the keys of a page's last entry."""
    micros = (time - BEGINNING) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}:{id}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[datetime, str]:
    try:
        micros, _, id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode().partition(":")
        return BEGINNING + timedelta(microseconds=int(micros)), str(UUID(id))
    except (ValueError, OverflowError) as error:
        raise BadCursor("This cursor is none that a list gave: begin without one.") from error


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _is_id(text: str) -> bool:
    try:
        partition_of(text)
        return True
    except ValueError:
        return False
