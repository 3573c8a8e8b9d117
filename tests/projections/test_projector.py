"""The projector against a real broker, registry and database."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from ops import kafka as clients
from ops.embedded.kafka import Kafka
from ops.embedded.postgres import Postgres
from ops.settings import Settings
from projections import database, projector, store
from projections.nouns import SESSION
from projections.queries import Queries, ReadModelDown
from projections.reading import Chain, Progress, Reading, Taken, aggregate_of
from projections.session import EVENTS
from schemas.chain import ChainBroken, digest
from schemas.codec import Codec
from schemas.types.session import PostMessage, SessionEvent
from tests.history import BEGIN, History, Written, make_history, produce
from tests.projections.conftest import SECONDS, codec_of, prepared, projecting
from tests.projections.models import contents, run

GARBAGE = Written(b"?", b"neither framing nor schema", [])


def append(settings: Settings, records: list[Written], partition: int = 0) -> None:
    produce(clients.bootstrap(settings), records, partition)


async def test_what_is_appended_can_be_read_from_the_read_model(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a running projector
    async with projecting(platform) as applied:
        # When a session is appended
        history = History(codec, 1)
        id = history.session(turns=2, metadata={"team": "a"})
        append(platform, history.take(), 1)
        # Then its last command is applied
        assert await applied.command(SESSION.commands, 1, history.commands - 1, SECONDS)
        assert await applied.event(EVENTS, 1, 6, SECONDS)
        assert not await applied.event(EVENTS, 1, 7, timeout=0.1)
        assert not await applied.command(SESSION.commands, 0, 0, timeout=0.1)
    # And it can be read
    queries = Queries.connect(database.url(platform))
    summary = await queries.session(id, "default")
    stored = await queries.events_of(id, "default")
    positions = await queries.positions(EVENTS)
    await queries.close()
    assert summary
    assert (summary.status, summary.version, summary.messages) == ("idle", 7, 4)
    assert [codec.decode(value) for _, value in stored] == history.events
    assert positions[1].command_offset == history.commands - 1
    assert positions[0] == Progress()


def test_rows_are_written_only_from_the_position_that_is_expected(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a projector that wrote the first of two sessions
    chain = Chain(EVENTS, 0)
    reading, taken, progress = Reading(chain, Progress()), list[Taken](), list[Progress]()
    for offset, record in enumerate(make_history(2, codec)):
        event = codec.decode(record.value)
        assert reading.take(event, record.value, offset)
        taken.append(Taken(chain, offset, aggregate_of(event, 0), event, record.value))
        progress.append(reading.progress)
    with database.engine(database.url(platform)) as engine:
        with engine.begin() as connection:
            start = store.load(connection, [chain])
            store.project(connection, start, {chain: progress[3]}, taken[:4])
        before = contents(platform)
        # When a second one, which still believes to be at the beginning, writes both
        with pytest.raises(store.Moved), engine.begin() as connection:
            store.project(connection, start, {chain: progress[7]}, taken)
        # Then nothing has changed, and the first one goes on
        assert contents(platform) == before
        with engine.begin() as connection:
            store.project(connection, {chain: progress[3]}, {chain: progress[7]}, taken[4:])
    assert len(contents(platform)["events"]) == len(taken)


async def test_two_projectors_of_one_partition_write_everything_once(
    platform: Settings, codec: Codec[SessionEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two projectors in groups of their own, so that both read everything
    history = History(codec)
    async with projecting(platform) as first:
        history.session()
        append(platform, history.take())
        assert await first.event(EVENTS, 0, 3, SECONDS)
        monkeypatch.setattr(projector, "GROUP", "another")
        async with projecting(platform) as second:
            # When sessions are appended, one at a time
            for _ in range(10):
                history.session()
                append(platform, history.take())
            assert await second.event(EVENTS, 0, len(history.events) - 1, SECONDS)
    # Then every event has one row, and each session its last version
    found = contents(platform)
    assert [row[1] for row in found["events"]] == list(range(len(history.events)))
    assert [row[7] for row in found["sessions"]] == [4] * 11


async def test_void_records_are_passed_over(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a history, the same records once more, garbage, and records of a writer who begins anew
    history, other = History(codec), History(codec)
    history.session()
    records = history.take()
    other.session()
    append(platform, [*records, *records, GARBAGE, *other.take()])
    # When the chain goes on behind them
    history.session()
    append(platform, history.take())
    async with projecting(platform) as applied:
        assert await applied.event(EVENTS, 0, 16, SECONDS)
    # Then only valid ones have rows
    found = contents(platform)
    assert [row[1] for row in found["events"]] == [0, 1, 2, 3, 13, 14, 15, 16]
    [(_, _, next_offset, sequence, _, _, void, in_a_row, *_)] = [row for row in found["positions"] if row[1] == 0]
    assert (next_offset, sequence, void, in_a_row) == (17, 8, 9, 0)


async def test_an_unreadable_record_that_is_in_place_stops_the_projector(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given garbage that the next record builds upon
    history = History(codec)
    history.session()
    append(platform, [*history.take(), GARBAGE])
    head = history.partition.head
    history.partition.head = msgspec.structs.replace(head, sequence=head.sequence + 1, digest=digest(GARBAGE.value))
    history.session()
    append(platform, history.take())
    # When / then the projector ends, and says where and what to do
    with pytest.raises(ChainBroken, match=r"soma\.session\.events/0: offset 4: .*`soma events void`"):
        async with asyncio.timeout(SECONDS):
            await projector.serve(platform)
    # And stands before it, for a release that can read it
    assert [row[2] for row in contents(platform)["positions"] if row[1] == 0] == [4]


async def test_an_unreadable_record_is_passed_once_it_is_voided(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given garbage at the end, before which the projector stands
    history = History(codec)
    history.session()
    append(platform, [*history.take(), GARBAGE])
    async with projecting(platform) as applied:
        assert await applied.event(EVENTS, 0, 3, SECONDS)
        assert not await applied.event(EVENTS, 0, 4, timeout=0.5)
        # When an operator's word takes it out of the chain
        [word] = history.partition.voided(4, "garbage", "operator", BEGIN)
        append(platform, [Written(word.key, word.value, word.headers)])
        # Then it goes on
        assert await applied.event(EVENTS, 0, 5, SECONDS)
    assert [(row[1], row[2], row[5]) for row in contents(platform)["events"]][-1] == (5, None, "RecordVoided")


async def test_records_of_no_session_have_rows_and_change_none(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a session of partition 1, and a command for it that went to partition 0, with NUL in what it says
    owner, stray = History(codec, 1), History(codec, 0)
    id = owner.session(metadata={"odd": "a\x00b"})
    stray.send(id, PostMessage(input="wrong door"))
    stray.send("no id at all\x00", PostMessage(input="what?"))
    append(platform, owner.take(), 1)
    append(platform, stray.take(), 0)
    # When
    async with projecting(platform) as applied:
        assert await applied.event(EVENTS, 1, 3, SECONDS)
        assert await applied.event(EVENTS, 0, 1, SECONDS)
    # Then
    found = contents(platform)
    assert [(row[0], row[2] is None, row[5]) for row in found["events"] if row[0] == 0] == [(0, True, "Refused")] * 2
    [session] = found["sessions"]
    assert (str(session[0]), session[6], session[7]) == (id, {"odd": "a\ufffdb"}, 4)


async def test_a_read_model_of_another_log_is_not_continued(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a read model that holds more than the log
    async with projecting(platform) as applied:
        append(platform, make_history(1, codec))
        assert await applied.event(EVENTS, 0, 3, SECONDS)
    run(platform, "UPDATE positions SET next_offset = 500 WHERE partition = 0")
    # When / then
    with pytest.raises(ChainBroken, match=r"goes on at 500: .*`soma rebuild`"):
        async with asyncio.timeout(SECONDS):
            await projector.serve(platform)


async def test_new_partitions_are_noticed(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a running projector
    async with projecting(platform) as applied:
        append(platform, make_history(1, codec))
        assert await applied.event(EVENTS, 0, 3, SECONDS)
        # When a partition is added and written to
        admin = AdminClient(clients.confluent(platform))
        admin.create_partitions([NewPartitions(EVENTS, 3)], operation_timeout=10)[EVENTS].result(10)
        append(platform, make_history(1, codec, 2), 2)
        # Then
        assert await applied.event(EVENTS, 2, 3, SECONDS)


@pytest.mark.parametrize("place", ["projector.before_commit:2", "projector.after_commit:2"])
async def test_a_killed_projector_leaves_rows_and_position_together(platform: Settings, codec: Codec[SessionEvent], place: str) -> None:
    # Given a projector that is killed at its second commit
    history = History(codec)
    history.session()
    append(platform, history.take())
    environment = {**os.environ, **environment_of(platform), "SOMA_FAILPOINT": place}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ops.cli", "projector", env=environment)
    async with asyncio.timeout(SECONDS):
        while process.returncode is None:
            history.session()
            append(platform, history.take())
            await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.2)
    assert process.returncode == -signal.SIGKILL
    # When what it left is looked at
    found = contents(platform)
    [(_, _, next_offset, *_)] = [row for row in found["positions"] if row[1] == 0]
    # Then it is what the position says, and the next projector goes on from there
    assert [row[1] for row in found["events"]] == list(range(next_offset))
    async with projecting(platform) as applied:
        assert await applied.event(EVENTS, 0, len(history.events) - 1, SECONDS)
    assert [row[1] for row in contents(platform)["events"]] == list(range(len(history.events)))


async def test_sigterm_ends_it_well(platform: Settings) -> None:
    # Given a projector that has begun
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.cli", "projector", env={**os.environ, **environment_of(platform)}
    )
    async with asyncio.timeout(SECONDS):
        while not contents(platform)["positions"]:
            await asyncio.sleep(0.05)
        # When
        process.send_signal(signal.SIGTERM)
        # Then
        assert await process.wait() == 0


async def test_the_database_may_go_and_come_back(module_platform: Settings, tmp_path: Path) -> None:
    # Given a projector on a PostgreSQL of its own
    server = Postgres(tmp_path)
    await server.start()
    settings = prepared(module_platform.model_copy(update={"database_url": server.uri}))
    history, queries = History(codec_of(settings)), Queries.connect(server.uri)
    async with projecting(settings) as applied:
        history.session()
        append(settings, history.take())
        assert await applied.event(EVENTS, 0, 3, SECONDS)
        # When the server is killed, and events are appended meanwhile
        server.kill()
        history.session()
        append(settings, history.take())
        with pytest.raises(ReadModelDown):
            await queries.positions(EVENTS)
        assert not await applied.event(EVENTS, 0, 7, timeout=0.5)
        await server.start()
        # Then everything catches up by itself
        assert await applied.event(EVENTS, 0, 7, SECONDS)
        assert (await queries.positions(EVENTS))[0].command_offset == history.commands - 1
    await queries.close()
    await server.stop()


async def test_the_broker_may_go_and_come_back(own_kafka: Kafka, own_platform: Settings) -> None:
    # Given a projector
    settings = prepared(own_platform)
    history = History(codec_of(settings))
    async with projecting(settings) as applied:
        history.session()
        append(settings, history.take())
        assert await applied.event(EVENTS, 0, 3, SECONDS)
        # When the broker is killed and started again
        own_kafka.kill()
        await own_kafka.start()
        history.session()
        append(settings, history.take())
        # Then the projector goes on
        assert await applied.event(EVENTS, 0, 7, SECONDS)


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "SCHEMA_REGISTRY_URL": settings.schema_registry_url or "",
        "DATABASE_URL": settings.database_url or "",
    }
