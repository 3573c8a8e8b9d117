"""The embedded services: what they keep, how they fail, and that none outlives its owner."""

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from jgo.env import LockedDependency, LockFile
from jgo.maven import MavenContext

from ops.embedded import maven, process
from ops.embedded.directory import claimed
from ops.embedded.errors import FetchFailed, InUse, PortInUse, ServerFailed
from ops.embedded.group import running, together
from ops.embedded.kafka import Kafka
from ops.embedded.postgres import Postgres
from ops.embedded.process import Server, free_port, require_free
from ops.embedded.registry import Registry


async def test_each_server_still_has_after_a_restart_what_was_put_into_it(tmp_path: Path) -> None:
    # given
    kafka, registry, postgres = Kafka(tmp_path, free_port(), free_port()), Registry(tmp_path, free_port()), Postgres(tmp_path)
    schema = {"schema": '{"type": "record", "name": "Letter", "fields": []}'}
    async with running([kafka, registry, postgres], report=print):
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic("letters", 3, 1)])["letters"].result(20)
        number = httpx.post(f"{registry.url}/subjects/letters-value/versions", json=schema, timeout=60).json()["id"]
        with psycopg.connect(postgres.uri) as connection:
            connection.execute("CREATE TABLE letters AS SELECT 'dear reader' AS text")

    # when
    async with running([kafka, registry, postgres], report=print):
        # then
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        assert len(admin.list_topics("letters", timeout=20).topics["letters"].partitions) == 3
        assert httpx.get(f"{registry.url}/subjects/letters-value/versions/latest", timeout=60).json()["id"] == number
        with psycopg.connect(postgres.uri) as connection:
            assert connection.execute("SELECT text FROM letters").fetchall() == [("dear reader",)]
    assert (kafka.pid, registry.pid, postgres.pid) == (None, None, None)


async def test_a_killed_broker_comes_back_with_its_records(own_kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    admin.create_topics([NewTopic("letters", 1, 1)])["letters"].result(20)

    own_kafka.kill()
    await own_kafka.start()

    assert "letters" in admin.list_topics(timeout=20).topics


async def test_the_broker_does_not_create_topics_by_itself(own_kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap, "allow.auto.create.topics": True})

    admin.list_topics("letters", timeout=20)

    assert "letters" not in admin.list_topics(timeout=20).topics


@pytest.mark.parametrize(
    ("variable", "service"),
    [
        ("SOMA_KAFKA_PORT", lambda directory, port: Kafka(directory, port, free_port())),
        ("SOMA_KAFKA_CONTROLLER_PORT", lambda directory, port: Kafka(directory, free_port(), port)),
        ("SOMA_REGISTRY_PORT", Registry),
    ],
)
async def test_a_port_in_use_is_named_with_the_variable_that_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, service: Callable[[Path, int], Kafka | Registry]
) -> None:
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(PortInUse, match=f"Port {port} .* Set {variable} "):
            await service(tmp_path, port).start()


async def test_a_free_port_may_be_listened_on() -> None:
    await require_free(free_port(), "GATEWAY_PORT")


async def test_postgres_listens_only_on_a_socket_that_others_cannot_reach_however_long_the_directory_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    postgres = Postgres(deep)

    async with running([postgres], report=print):
        with psycopg.connect(postgres.uri) as connection:
            [listening] = connection.execute("SHOW listen_addresses").fetchone() or ()
            [sockets] = connection.execute("SHOW unix_socket_directories").fetchone() or ()
        mode = Path(sockets.strip('"')).stat().st_mode

    assert listening == ""
    assert mode & 0o077 == 0
    assert not Path(sockets.strip('"')).exists()


def test_a_data_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(InUse, match=f"process {os.getpid()}.*SOMA_DATA_DIR"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


async def test_a_server_that_ends_while_it_starts_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = Server("The archive", ["/bin/sh", "-c", "echo the disk is full; exit 3"], tmp_path / "archive.log", ready="open")

    with pytest.raises(ServerFailed, match=r"(?s)The archive ended with code 3.*archive\.log.*the disk is full"):
        await server.start()


async def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    server = Server("The archive", ["/bin/sh", "-c", "echo busy; exec sleep 60"], tmp_path / "archive.log", ready="open")

    with pytest.raises(ServerFailed, match=r"(?s)not ready within 0 s.*busy"):
        await server.start(timeout=0.2)

    assert server.pid is None


async def test_a_server_that_does_not_stop_when_asked_is_killed(tmp_path: Path) -> None:
    deaf = ["/bin/sh", "-c", "trap '' TERM; echo open; while :; do sleep 0.1; done"]
    server = Server("The archive", deaf, tmp_path / "archive.log", ready="open")
    await server.start()

    await server.stop(timeout=0.2)

    assert server.pid is None


async def test_a_server_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "correct horse")
    server = Server("The archive", ["/bin/sh", "-c", "env; echo open; exec sleep 60"], tmp_path / "archive.log", ready="open")
    await server.start()
    await server.stop()

    assert "correct horse" not in (tmp_path / "archive.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_no_server_outlives_a_killed_owner(tmp_path: Path) -> None:
    # given an owner with a server that holds the write end of a pipe
    read, write = os.pipe()
    owner = f"""
import asyncio, pathlib, subprocess
from ops.embedded.process import Server
log = pathlib.Path({str(tmp_path / "archive.log")!r})
server = Server("The archive", ["/bin/sh", "-c", "echo open; exec sleep 600 > /proc/self/fd/{write}"], log, "open")
spawn = subprocess.Popen
subprocess.Popen = lambda *a, **k: spawn(*a, **k, pass_fds=[{write}])
asyncio.run(server.start())
print("started", flush=True)
import time; time.sleep(600)
"""
    killed = subprocess.Popen([sys.executable, "-c", owner], pass_fds=[write], stdout=subprocess.PIPE)
    assert killed.stdout
    assert killed.stdout.readline() == b"started\n"
    os.close(write)

    # when
    killed.kill()
    killed.wait()

    # then its end of the pipe is closed, which is read as the end of the file
    assert os.read(read, 1) == b""


async def test_a_server_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    server = Server("The archive", ["/bin/sh", "-c", "echo open; read line; exit 3"], tmp_path / "archive.log", ready="open")
    await server.start()

    with pytest.raises(ServerFailed, match=r"(?s)The archive ended with code 3.*open"):
        await server.failed()


class Fake:
    """A service that writes down what happens to it."""

    def __init__(self, name: str, diary: list[str], *, broken: bool = False) -> None:
        self.name, self._diary, self._broken = name, diary, broken

    async def start(self) -> None:
        if self._broken:
            raise ServerFailed(f"{self.name} is broken")
        self._diary.append(f"start {self.name}")

    async def stop(self) -> None:
        await asyncio.sleep(0.01)
        self._diary.append(f"stop {self.name}")

    async def failed(self) -> None:
        await asyncio.Event().wait()


async def test_a_group_stops_in_the_opposite_order() -> None:
    diary: list[str] = []

    async with running([Fake("log", diary), Fake("rows", diary)], report=diary.append):
        diary.append("work")

    assert diary[diary.index("work") :] == ["work", "stop rows", "rows is stopped", "stop log", "log is stopped"]


async def test_where_one_of_a_group_cannot_start_the_others_are_stopped_and_its_error_is_told() -> None:
    diary: list[str] = []

    with pytest.raises(ServerFailed, match="rows is broken"):
        async with running([Fake("log", diary), Fake("rows", diary, broken=True)], report=print):
            diary.append("work")

    assert diary == ["start log", "stop rows", "stop log"]


async def test_work_that_is_cancelled_together_has_ended_in_order_before_anything_else_goes_on() -> None:
    diary: list[str] = []

    async def platform() -> None:
        async with running([Fake("log", diary)], report=print):
            await together(asyncio.Event().wait(), processes())

    async def processes() -> None:
        async with running([Fake("gateway", diary)], report=print):
            await asyncio.Event().wait()

    work = asyncio.create_task(platform())
    while "start gateway" not in diary:
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])

    assert diary == ["start log", "start gateway", "stop gateway", "stop log"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback with one archive, a lock that names it, and an empty cache."""
    archive = tmp_path / "repository" / "org" / "letters" / "paper" / "1.0" / "paper-1.0.jar"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"dear reader")
    locked = LockedDependency("org.letters", "paper", "1.0", sha256=hashlib.sha256(b"dear reader").hexdigest())
    LockFile([locked]).save(tmp_path / "paper.lock")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "repository"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(maven, "LOCKS", tmp_path)
    remote = {"loopback": f"http://127.0.0.1:{server.server_port}"}
    monkeypatch.setattr(maven, "_context", lambda _: MavenContext(repo_cache=maven.cache_dir() / "maven", remote_repos=remote))
    yield archive
    server.shutdown()
    server.server_close()


def test_an_archive_is_fetched_once(repository: Path) -> None:
    [fetched] = maven.fetch("paper.lock")
    repository.unlink()

    assert maven.fetch("paper.lock") == [fetched]
    assert fetched.read_bytes() == b"dear reader"


def test_a_damaged_archive_of_the_cache_is_fetched_again(repository: Path) -> None:
    [fetched] = maven.fetch("paper.lock")
    fetched.write_bytes(b"dear re")

    assert maven.fetch("paper.lock")[0].read_bytes() == b"dear reader"


def test_an_archive_that_is_not_the_one_of_the_lock_is_refused(repository: Path) -> None:
    repository.write_bytes(b"dear victim")

    with pytest.raises(FetchFailed, match=r"paper-1\.0\.jar has sha256 .* but the lock says"):
        maven.fetch("paper.lock")
    assert not list(maven.cache_dir().rglob("*.jar"))


def test_an_archive_that_cannot_be_had_is_named(repository: Path) -> None:
    repository.unlink()

    with pytest.raises(FetchFailed, match=r"paper-1\.0\.jar could not be fetched .* Check the network"):
        maven.fetch("paper.lock")


def test_the_locks_name_a_sum_for_every_archive() -> None:
    for name in ("kafka.lock", "registry.lock"):
        assert all(locked.sha256 for locked in LockFile.load(maven.LOCKS / name).dependencies)
