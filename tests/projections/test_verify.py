"""`soma verify` finds every row that is not what the log says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ops import kafka as clients
from ops.settings import Settings
from projections import cli
from projections.rebuild import Watcher, rebuild
from projections.session import EVENTS
from projections.verify import Difference, verify
from schemas.codec import Codec
from schemas.types.session import SessionEvent
from tests.history import make_history, produce
from tests.projections.models import contents, run

app = typer.Typer()
for command in (cli.migrate, cli.rebuild, cli.verify):
    app.command()(command)


@pytest.fixture
def filled(platform: Settings, codec: Codec[SessionEvent]) -> Settings:
    """A read model of two partitions, made by a rebuild."""
    for partition in (0, 1):
        produce(clients.bootstrap(platform), make_history(2, codec, partition), partition)
    rebuild(platform, Watcher(lambda sizes: None, lambda partition, records: None, lambda phase: None))
    return platform


def differences(settings: Settings) -> list[Difference]:
    verified = verify(settings, lambda sizes: None, lambda partition, records: None)
    return [difference for chain in sorted(verified) for difference in verified[chain].differences]


def test_every_kind_of_difference_is_found_in_its_place(filled: Settings) -> None:
    # Given rows that were changed, removed and made up, in every table
    session = str(next(row[0] for row in contents(filled)["sessions"] if row[2] == 0))
    assert differences(filled) == []
    run(filled, f"UPDATE sessions SET status = 'ended', messages = 9 WHERE id = '{session}'")
    run(filled, "UPDATE events SET value = value || '\\x00'::bytea WHERE partition = 0 AND \"offset\" = 3")
    run(filled, 'DELETE FROM events WHERE partition = 1 AND "offset" = 2')
    run(filled, "INSERT INTO events SELECT 1, 99, session_id, tenant, version, type, at, value FROM events LIMIT 1")
    run(filled, "INSERT INTO events SELECT 7, 0, session_id, tenant, version, type, at, value FROM events LIMIT 1")
    run(filled, "UPDATE positions SET command_offset = 17 WHERE partition = 1")
    # When
    found = differences(filled)
    # Then each is told
    assert [each[:4] for each in found] == [
        (0, "events", "3", "value"),
        (0, "sessions", session, "status"),
        (0, "sessions", session, "messages"),
        (1, "events", "2", "*"),
        (1, "events", "99", "*"),
        (1, "positions", "1", "command_offset"),
        (7, "events", "*", "*"),
    ]
    assert (found[1].expected, found[1].found) == ("idle", "ended")
    assert (found[3].expected, found[3].found) == ("a row", "none")
    assert (found[4].expected, found[4].found) == ("none", "a row")


def test_the_command_says_so_by_its_exit_code(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", clients.bootstrap(filled))
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", filled.schema_registry_url or "")
    monkeypatch.setenv("DATABASE_URL", filled.database_url or "")
    soma = CliRunner()
    # When / then nothing differs
    well = soma.invoke(app, ["verify"])
    assert (well.exit_code, well.stdout) == (0, "16 records, and 6 rows folded from them: no differences.\n")
    # When a row is changed, then it is told
    run(filled, "UPDATE sessions SET model = 'another'")
    told = soma.invoke(app, ["verify", "--json"])
    assert told.exit_code == 1
    assert [(each["column"], each["expected"], each["found"]) for each in json.loads(told.stdout)["differences"]] == [
        ("model", "echo", "another")
    ] * 4
    assert "`soma rebuild`" in soma.invoke(app, ["verify"]).stdout
    # When it is rebuilt, then it is well again
    assert json.loads(soma.invoke(app, ["rebuild", "--json"]).stdout)["copied"] == 16
    assert soma.invoke(app, ["verify"]).exit_code == 0
    # When its tables are gone, then it says what makes them
    run(filled, "DROP TABLE positions")
    gone = soma.invoke(app, ["verify"])
    assert (gone.exit_code, "run `soma migrate`" in gone.stderr) == (1, True)
    # When the chain is walked
    chain = soma.invoke(app, ["verify", "--chain", "--json"])
    assert (chain.exit_code, json.loads(chain.stdout)[1]) == (0, {"topic": EVENTS, "partition": 1, "valid": 8, "void": [], "broken": None})


def test_wrong_settings_and_missing_servers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given nothing at all
    monkeypatch.delenv("DATABASE_URL", raising=False)
    missing = subprocess.run([Path(sys.executable).with_name("soma"), "migrate"], capture_output=True, text=True, timeout=60, check=False)
    assert (missing.returncode, "DATABASE_URL is not set" in missing.stderr) == (2, True)
    # Given an address where nothing answers
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:hidden@127.0.0.1:1/none")
    down = CliRunner().invoke(app, ["migrate"])
    assert (down.exit_code, "Check DATABASE_URL" in down.stderr, "hidden" in down.output) == (1, True, False)
