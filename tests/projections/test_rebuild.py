"""Rebuilding the read model from the log, with a real broker, registry and database."""

import asyncio
import threading

import pytest

from ops import kafka as clients
from ops.settings import Settings
from projections import database
from projections.cli import renew
from projections.nouns import SESSION
from projections.rebuild import Behind, Rebuilt, Watcher, rebuild
from projections.session import EVENTS
from projections.verify import Difference, verify
from schemas.codec import Codec
from schemas.types.common import Sealed
from schemas.types.session import PostMessage, SessionEvent
from tests.history import History, Written, make_history, produce
from tests.projections.conftest import SECONDS, projecting
from tests.projections.models import contents, generation, run
from tests.projections.test_projector import environment_of


def append(settings: Settings, records: list[Written], partition: int = 0) -> None:
    produce(clients.bootstrap(settings), records, partition)


def quietly(settings: Settings, *, another_log: bool = False) -> Rebuilt:
    return rebuild(settings, Watcher(lambda sizes: None, lambda partition, records: None, lambda phase: None), another_log=another_log)


def differences(settings: Settings) -> list[Difference]:
    verified = verify(settings, lambda sizes: None, lambda partition, records: None)
    return [difference for each in verified.values() for difference in each.differences]


async def test_a_deleted_read_model_comes_back_identical(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a read model that the projector made, of sessions, sealed text, refusals, void records and garbage
    history = History(codec)
    id = history.session(turns=3, metadata={"team": "a"})
    history.start(Sealed(key_id="key-7", ciphertext=b"\x00\xff"))
    history.send(id, PostMessage(input="of another"), tenant="another")
    history.session(close=True)
    records = history.take()
    append(platform, [*records[:9], *records[:3], Written(b"?", b"garbage", []), *records[9:]])
    append(platform, make_history(3, codec, 1), 1)
    async with projecting(platform) as applied:
        assert await applied.event(EVENTS, 0, len(records) + 3, SECONDS)
        assert await applied.event(EVENTS, 1, 11, SECONDS)
    before = contents(platform)
    # When it is deleted and rebuilt
    run(platform, "DROP SCHEMA read_model CASCADE")
    done = quietly(platform)
    # Then
    assert contents(platform) == before
    assert (done.copied, done.followed, done.former_dropped) == (len(records) + 4 + 12, 0, True)
    assert differences(platform) == []


async def test_everything_goes_on_during_a_rebuild(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a projector, and somebody who appends without pause
    history, enough = History(codec), threading.Event()
    append(platform, make_history(5, codec, 1), 1)

    def keep_appending() -> None:
        while not enough.is_set():
            history.session()
            append(platform, history.take())

    async with projecting(platform) as applied:
        appending = asyncio.create_task(asyncio.to_thread(keep_appending))
        assert await applied.event(EVENTS, 0, 3, SECONDS)
        served = generation(platform)
        # When the read model is rebuilt, twice
        first = await asyncio.to_thread(quietly, platform)
        await asyncio.to_thread(quietly, platform)
        enough.set()
        await appending
        history.session()
        append(platform, history.take())
        # Then the projector goes on in the new generation, and nothing is missing there
        assert await applied.command(SESSION.commands, 0, history.commands - 1, SECONDS)
    assert generation(platform) != served
    assert first.copied >= 24
    assert [row[1] for row in contents(platform)["events"] if row[0] == 0] == list(range(len(history.events)))
    assert differences(platform) == []


def test_a_log_that_holds_less_replaces_nothing_unless_it_is_meant_to(platform: Settings, codec: Codec[SessionEvent]) -> None:
    # Given a read model that is ahead of the log
    append(platform, make_history(2, codec))
    quietly(platform)
    run(platform, "UPDATE positions SET next_offset = 500 WHERE partition = 0")
    before = contents(platform)
    # When / then
    with pytest.raises(Behind, match=r"of this log ends at offset 8, but the served read model holds 500: .*--another-log"):
        quietly(platform)
    assert contents(platform) == before
    # When it is meant
    quietly(platform, another_log=True)
    # Then
    assert differences(platform) == []


def test_after_an_upgrade_rows_are_made_anew_where_that_is_allowed(
    platform: Settings, codec: Codec[SessionEvent], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a read model that is of this release
    for name, value in environment_of(platform).items():
        monkeypatch.setenv(name, value)
    append(platform, make_history(2, codec))
    quietly(platform)
    served = generation(platform)
    renew(allowed=True)
    assert (generation(platform), capsys.readouterr().err) == (served, "")
    # When it is another's
    run(platform, "UPDATE positions SET fold = 'another'")
    # Then somebody is asked for a rebuild
    renew(allowed=False)
    assert (generation(platform), "run `soma rebuild`" in capsys.readouterr().err) == (served, True)
    # And where that is allowed it is done
    renew(allowed=True)
    assert "soma.session.events were made by another release's code: they are made anew." in capsys.readouterr().err
    assert (generation(platform) != served, differences(platform)) == (True, [])


def test_two_rebuilds_at_once_are_refused(platform: Settings) -> None:
    # Given something that looks at the served generation
    with database.engine(database.url(platform)) as engine, database.kept(engine, exclusively=False):
        # When / then
        refused = pytest.raises(database.Busy, match="wait for it")
        with refused:
            quietly(platform)
