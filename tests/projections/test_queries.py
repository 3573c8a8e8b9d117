"""What GETs ask, against a real database."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from fastavro import parse_schema

from projections import database, store
from projections.applied import Applied
from projections.nouns import SESSION
from projections.queries import BadCursor, CallFilters, Filters, Queries, ReadModelDown
from projections.reading import Chain, Reading, Taken, aggregate_of
from projections.session import EVENTS
from projections.tables import events, positions, sessions
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.types.session import PostMessage, SessionEvent
from tests.history import BEGIN, History
from tests.projections.test_usage import answer, start

CODEC = Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))})


@pytest.fixture
def migrated(postgres: str) -> str:
    database.migrate(postgres)
    return postgres


@pytest_asyncio.fixture
async def queries(migrated: str) -> AsyncIterator[Queries]:
    queries = Queries.connect(migrated)
    yield queries
    await queries.close()


def project(url: str, history: History) -> None:
    """Write what the history has new, as a projector would."""
    chain = Chain(EVENTS, history.partition.number)
    with database.engine(url) as engine, engine.begin() as connection:
        before = store.load(connection, [chain])
        reading, taken = Reading(chain, before[chain]), list[Taken]()
        for record in history.take():
            event, offset = CODEC.decode(record.value), reading.head.next_offset
            assert reading.take(event, record.value, offset)
            taken.append(Taken(chain, offset, aggregate_of(event, chain.partition), event, record.value))
        store.project(connection, before, {chain: reading.progress}, taken)
        store.announce(connection, {chain: reading.progress})


async def test_pages_show_every_session_once_and_the_newest_first(migrated: str, queries: Queries) -> None:
    # Given seven sessions of two partitions
    first, second = History(CODEC, 0), History(CODEC, 1)
    ids = [history.start(None) for history in [first, second, first, first, second, first, second]]
    project(migrated, first)
    project(migrated, second)
    # When they are read in pages of three
    pages, cursor = list[list[str]](), None
    while True:
        page = await queries.sessions("default", cursor=cursor, limit=3)
        pages.append([summary.id for summary in page.sessions])
        if (cursor := page.cursor) is None:
            break
    # Then
    assert [len(page) for page in pages] == [3, 3, 1]
    found = list(itertools.chain(*pages))
    assert sorted(found) == sorted(ids)
    times = {summary.id: summary.created_at for summary in (await queries.sessions("default")).sessions}
    assert [times[id] for id in found] == sorted(times.values(), reverse=True)


async def test_filters_narrow_the_list(migrated: str, queries: Queries) -> None:
    # Given
    history = History(CODEC)
    waiting = history.start("hello", metadata={"team": "a", "stage": "test"})
    history.session(metadata={"team": "b"})
    closed = history.session(close=True, metadata={"team": "a"})
    project(migrated, history)
    started = BEGIN + timedelta(milliseconds=1)

    async def ids(filters: Filters) -> set[str]:
        return {summary.id for summary in (await queries.sessions("default", filters)).sessions}

    # When / then
    assert await ids(Filters(status="thinking")) == {waiting}
    assert await ids(Filters(status="ended")) == {closed}
    assert await ids(Filters(metadata={"team": "a"})) == {waiting, closed}
    assert await ids(Filters(metadata={"team": "a", "stage": "test"})) == {waiting}
    assert await ids(Filters(model="another")) == set()
    assert await ids(Filters(created_before=started + timedelta(milliseconds=1))) == {waiting}
    assert len(await ids(Filters(created_after=started))) == 2


async def test_the_ledger_lists_the_calls_of_a_reply_in_their_order_page_by_page(migrated: str, queries: Queries) -> None:
    # Given two sessions whose models ask for many calls at once
    history, asked = History(CODEC), list[str]()
    for _ in range(2):
        asked += answer(history, start(history), *["add", "unheard-of", "pay"] * 7)
    project(migrated, history)
    # When they are read in pages of five
    read, cursor = list[str](), None
    while not read or cursor:
        page = await queries.calls("default", CallFilters(), cursor, 5)
        read += [call.id for call in page.calls]
        cursor = page.cursor
    # Then the last one asked for is the first
    assert read == list(dict.fromkeys(reversed(asked)))


async def test_another_tenant_sees_nothing(migrated: str, queries: Queries) -> None:
    # Given a session, and what another tenant tried with it
    history = History(CODEC)
    id = history.session()
    history.send(id, PostMessage(input="let me in"), tenant="another")
    project(migrated, history)
    # When / then
    assert await queries.session(id, "another") is None
    assert (await queries.sessions("another")).sessions == []
    assert [offset for offset, _ in await queries.events_of(id, "default")] == [0, 1, 2, 3]
    assert [offset for offset, _ in await queries.events_of(id, "another")] == [4]


async def test_events_are_given_from_a_place_on(migrated: str, queries: Queries) -> None:
    # Given
    history = History(CODEC)
    history.session()
    id = history.session()
    project(migrated, history)
    # When / then
    assert [offset for offset, _ in await queries.events_of(id, "default", after_offset=5)] == [6, 7]
    assert [offset for offset, _ in await queries.events_of(id, "default", limit=2)] == [4, 5]


@pytest.mark.parametrize("id", ["", "no id", "{01900000-0000-7000-8000-000000000000}", "\x00", "01900000-0000-7000-8000-00000000000A"])
async def test_what_is_no_id_finds_nothing(queries: Queries, id: str) -> None:
    assert await queries.session(id, "default") is None
    assert await queries.events_of(id, "default") == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "äö", "MTox", "bm8gY3Vyc29y", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAw"]
)
async def test_a_made_up_cursor_is_refused(queries: Queries, cursor: str) -> None:
    with pytest.raises(BadCursor, match="begin without one"):
        await queries.sessions("default", cursor=cursor)


async def test_a_database_that_is_not_there_is_said_to_be_down() -> None:
    queries = Queries.connect("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ReadModelDown, match="DATABASE_URL"):
        await queries.positions(EVENTS)
    await queries.close()


async def test_what_waits_is_woken_by_the_commit(migrated: str) -> None:
    # Given somebody who listens
    history = History(CODEC)
    async with Applied(migrated) as applied:
        history.session()
        project(migrated, history)
        assert await applied.event(EVENTS, 0, 3, 10)
        # When more is projected
        history.session()
        project(migrated, history)
        # Then
        assert await applied.command(SESSION.commands, 0, history.commands - 1, 10)
        assert not await applied.command(SESSION.commands, 0, history.commands, 0.05)


async def test_a_read_model_that_begins_anew_is_not_taken_for_the_former(migrated: str) -> None:
    # Given somebody who knows of 8 events
    history, shorter = History(CODEC), History(CODEC)
    history.session()
    history.session()
    shorter.session()
    async with Applied(migrated) as applied:
        project(migrated, history)
        assert await applied.event(EVENTS, 0, 7, 10)
        # When the read model is emptied and gets a shorter history
        with database.engine(migrated) as engine, engine.begin() as connection:
            for table in (sessions, events, positions):
                connection.execute(table.delete())
        project(migrated, shorter)
        # Then the knowledge is given up
        async with asyncio.timeout(10):
            while await applied.event(EVENTS, 0, 4, 0.05):
                await asyncio.sleep(0.05)
        assert await applied.event(EVENTS, 0, 3, 10)
