"""A second noun beside the session: followed, waited for, verified, proved and rebuilt by the same code. And what fingerprints notice."""

import asyncio
import inspect
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select, text

from ops import kafka as clients
from ops.settings import Settings
from projections import database, proof, rebuild, store, verify
from projections.noun import Noun
from projections.nouns import NOUNS, SESSION
from projections.queries import Queries
from projections.reading import Chain
from schemas.codec import Codec
from schemas.ids import named_id
from schemas.registry import Registry
from schemas.types.session import SessionEvent
from schemas.types.tool import RegisterTool, RetireTool
from streams import tool as streams_tool
from tests.commands.test_tool import definition
from tests.history import History, make_history, produce
from tests.projections.conftest import SECONDS, emptied, projecting
from tests.projections.models import contents, run
from tests.projections.test_projector import environment_of
from tests.projections.tool import MIGRATION, TOOL, here, tools

NOBODY = rebuild.Watcher(lambda sizes: None, lambda chain, records: None, lambda phase: None)


@pytest.fixture
def two_nouns(platform: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform whose read model has tools too."""
    monkeypatch.setitem(NOUNS, TOOL.events, TOOL)
    migrate = database.migrate

    def with_tools(url: str, schema: str = database.SERVED) -> None:
        migrate(url, schema)
        with database.engine(url, schema) as engine, engine.begin() as connection:
            connection.execute(text(MIGRATION))

    monkeypatch.setattr(database, "migrate", with_tools)
    for module in (rebuild, verify, proof):
        monkeypatch.setattr(module, "over_partitions", here)
    emptied(platform, TOOL.events, 1)
    database.migrate(database.url(platform))
    return platform


@pytest.fixture
def history(two_nouns: Settings) -> History:
    """The one partition of tools."""
    codec: Codec[Any] = Registry(clients.registry(two_nouns)).codec(TOOL.events, TOOL.event)
    return History(codec, noun=streams_tool.TOOL)


def append(settings: Settings, history: History) -> None:
    produce(clients.bootstrap(settings), history.take(), topic=TOOL.events)


def register(history: History, name: str, description: str = "Adds.") -> None:
    history.send(named_id("default", "tool", name), RegisterTool(definition=definition(description, name)))


def rows(settings: Settings) -> list[tuple[Any, ...]]:
    with database.engine(database.url(settings)) as engine, engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(tools.c.name, tools.c.version).order_by(tools.c.name))]


def differences(settings: Settings) -> list[verify.Difference]:
    verified = verify.verify(settings, lambda sizes: None, lambda chain, records: None)
    return [difference for each in verified.values() for difference in each.differences]


async def test_rows_and_positions_of_two_nouns_are_written_side_by_side(
    two_nouns: Settings, history: History, codec: Codec[SessionEvent]
) -> None:
    async with projecting(two_nouns) as applied:
        # Given tools, of which one changes after its row was written
        register(history, "adder")
        register(history, "clock")
        append(two_nouns, history)
        assert await applied.command(TOOL.commands, 0, 1, SECONDS)
        # Then the same place of the session's commands is not applied
        assert not await applied.command(SESSION.commands, 0, 1, timeout=0.1)
        # When sessions are appended, and tools too, with one refusal
        produce(clients.bootstrap(two_nouns), make_history(2, codec))
        register(history, "adder", "Adds two.")
        history.send(named_id("default", "tool", "nothing"), RetireTool())
        append(two_nouns, history)
        # Then both are applied to their ends
        assert await applied.event(SESSION.events, 0, 7, SECONDS)
        assert await applied.command(TOOL.commands, 0, 3, SECONDS)
    assert rows(two_nouns) == [("adder", 2), ("clock", 1)]
    assert len(contents(two_nouns)["sessions"]) == 2
    assert {row[:3] for row in contents(two_nouns)["positions"]} == {(SESSION.events, 0, 8), (SESSION.events, 1, 0), (TOOL.events, 0, 4)}
    assert differences(two_nouns) == []


def test_another_nouns_rows_are_verified_proved_and_rebuilt(two_nouns: Settings, history: History, codec: Codec[SessionEvent]) -> None:
    # Given a read model of both, made by a rebuild
    produce(clients.bootstrap(two_nouns), make_history(1, codec, 1), 1)
    register(history, "adder")
    register(history, "clock")
    append(two_nouns, history)
    done = rebuild.rebuild(two_nouns, NOBODY)
    assert (done.copied, rows(two_nouns)) == (4 + 2, [("adder", 1), ("clock", 1)])
    # When rows are changed, made up, and of a partition that there is not
    run(two_nouns, "UPDATE tools SET version = 9 WHERE name = 'clock'")
    run(two_nouns, "INSERT INTO tools SELECT gen_random_uuid(), tenant, 3, name, version, entry FROM tools WHERE name = 'adder'")
    run(two_nouns, f"UPDATE positions SET versions = 7 WHERE topic = '{TOOL.events}'")
    # Then each is told
    found = [(each.partition, each.table, each.column, each.expected, each.found) for each in differences(two_nouns)]
    assert found == [
        (0, "tools", "version", "1", "9"),
        (0, "positions", "versions", "2", "7"),
        (3, "tools", "*", "none", "1 rows"),
    ]
    # And the chain is whole all the same
    assert proof.prove(two_nouns, lambda sizes: None, lambda chain, records: None)[Chain(TOOL.events, 0)] == proof.Proof(2, [], None)
    # When it is rebuilt while the log has more than a copy saw, then it is well
    register(history, "adder", "Adds two.")
    append(two_nouns, history)
    rebuild.rebuild(two_nouns, NOBODY)
    assert (rows(two_nouns), differences(two_nouns)) == ([("adder", 2), ("clock", 1)], [])


async def test_a_projector_does_not_go_on_with_another_folds_rows(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a projector whose rows another release makes anew meanwhile
    history, queries = History(codec), Queries.connect(database.url(platform))
    history.session()
    produce(clients.bootstrap(platform), history.take())
    with pytest.raises(store.OtherFold, match=r"soma\.session\.events were made by another release's code: run `soma rebuild`"):
        async with projecting(platform) as applied:
            assert await applied.event(SESSION.events, 0, 3, SECONDS)
            assert await queries.of_other_folds() == []
            run(platform, "UPDATE positions SET fold = 'another'")
            # When there is more to write, then it stops
            history.session()
            produce(clients.bootstrap(platform), history.take())
            assert not await applied.event(SESSION.events, 0, 4, timeout=1)
    assert await queries.of_other_folds() == [SESSION.events]
    assert len(contents(platform)["events"]) == 4
    # And the next process ends, and says what to do
    command, environment = [sys.executable, "-m", "ops.cli", "projector"], {**os.environ, **environment_of(platform)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS):
        _, told = await process.communicate()
    assert (process.returncode, b"run `soma rebuild`" in told) == (1, True)
    # When it is rebuilt, then it goes on
    await asyncio.to_thread(rebuild.rebuild, platform, NOBODY)
    async with projecting(platform) as applied:
        assert await applied.event(SESSION.events, 0, 7, SECONDS)
    assert await queries.of_other_folds() == []
    await queries.close()


def test_a_fingerprint_changes_with_code_and_not_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(source: str) -> str:
        monkeypatch.setattr(inspect, "getsource", lambda _: source)
        return Noun("n", "c", "e", object, (inspect,)).fingerprint

    first = of("def row(a):\n    return a + 1\n")
    assert of('"""Said."""\n\ndef row(a):\n    """What it does."""\n\n    return a + 1  # and why\n') == first
    assert of("def row(a):\n    return a + 2\n") != first


@pytest.mark.parametrize("noun", NOUNS.values(), ids=lambda noun: noun.name)
def test_a_fingerprint_covers_all_that_makes_rows(noun: Noun) -> None:
    # Given the modules that a fold's modules use, and theirs
    used, todo = set[ModuleType](), list(noun.sources)
    while todo:
        module = todo.pop()
        if module not in used:
            used.add(module)
            todo += _used(module)
    # Then none that folds is left out
    assert {module.__name__ for module in used} == {module.__name__ for module in noun.sources}


def _used(module: ModuleType) -> Iterator[ModuleType]:
    """Those that hold what this module names, as far as they decide what a row says."""
    for value in vars(module).values():
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
        if name.startswith(("commands.", "schemas.types.", "projections.")) and name not in ("projections.reading", "projections.noun"):
            yield sys.modules[name]
