"""`soma up`: everything starts, is started again when it dies, and stops in order."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from ops.embedded.directory import claimed
from ops.embedded.process import free_port
from ops.settings import RUNNING, Settings
from ops.up import gate

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
UP = [sys.executable, "-m", "ops.cli", "up"]


class Platform:
    """A `soma up` with an own data directory and own ports."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.gateway = f"http://127.0.0.1:{(port := free_port())}"
        given = {"KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "DATABASE_URL"}
        self.env = {name: value for name, value in os.environ.items() if name not in given} | {
            "SOMA_DATA_DIR": str(data_dir),
            "GATEWAY_PORT": str(port),
            "SOMA_KAFKA_PORT": str(free_port()),
            "SOMA_KAFKA_CONTROLLER_PORT": str(free_port()),
            "SOMA_REGISTRY_PORT": str(free_port()),
        }
        self.said = ""

    def start(self) -> None:
        self.process = subprocess.Popen(UP, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        pytest.fail(f"`soma up` ended before it said {text!r}:\n{self.said}")

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def run(self, statement: str) -> None:
        """One statement of SQL in the read model."""
        address = json.loads((self.data_dir / RUNNING).read_text())["DATABASE_URL"]
        with psycopg.connect(address, options="-csearch_path=read_model", autocommit=True) as connection:
            connection.execute(statement)

    def child(self, name: str) -> int:
        """The process id of `soma NAME`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        [found] = [pid for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").endswith(f"\0{name}".encode())]
        return int(found)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    platform.start()
    yield platform
    platform.process.kill()
    platform.process.communicate()


def test_the_platform_answers_survives_the_death_of_its_worker_stops_on_ctrl_c_and_starts_again(platform: Platform, tmp_path: Path) -> None:
    # when it has said so, it is healthy, and says where
    platform.until("Ctrl-C stops it")
    assert httpx.get(f"{platform.gateway}/health", timeout=30).is_success
    assert f"{platform.gateway}/docs" in platform.said

    # when its worker dies, another one is started
    os.kill(platform.child("worker"), signal.SIGKILL)
    platform.until("it is started again")

    # when somebody starts a second one there, that one says who was first
    second = subprocess.run(UP, env=platform.env, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"is in use by process {platform.process.pid}" in second.stdout

    # when it is stopped, everything is, in order
    assert platform.stop(signal.SIGINT) == 0
    stopped = [line.split(" s  ")[1] for line in platform.said.splitlines() if line.endswith(" is stopped")]
    order = ["gateway", "executor", "worker", "projector", "The schema registry", "PostgreSQL", "Kafka"]
    assert stopped == [f"{name} is stopped" for name in order]
    assert platform.said.endswith("SomaAgentHub is stopped.\n")
    assert "Traceback" not in platform.said
    with claimed(tmp_path):
        pass

    # when it is started again, it finds what it had
    platform.start()
    platform.until("Ctrl-C stops it")
    session = httpx.post(f"{platform.gateway}/v1/sessions", json={"model": "echo", "input": "hello"}, timeout=60).json()
    assert "another release's code" not in platform.said

    # when it is an upgrade whose code makes other rows, it makes them anew before anything else, and says so
    platform.run("UPDATE positions SET fold = 'of the former release'")
    platform.run("DELETE FROM usage")
    assert platform.stop(signal.SIGINT) == 0
    platform.start()
    platform.until("soma.session.events were made by another release's code: they are made anew.")
    platform.until("Ctrl-C stops it")
    read = httpx.get(f"{platform.gateway}/v1/sessions/{session['id']}", timeout=60)
    assert read.json()["messages"] == session["messages"]
    assert httpx.get(f"{platform.gateway}/v1/usage", timeout=60).json()["total"]["replies"] == 1
    assert httpx.get(f"{platform.gateway}/health", timeout=60).json()["status"] == "ok"

    # when it is told by SIGTERM, it stops as well
    assert platform.stop(signal.SIGTERM) == 0


def test_a_wrong_setting_ends_it_at_once(tmp_path: Path) -> None:
    env = {**os.environ, "SOMA_DATA_DIR": str(tmp_path), "GATEWAY_PORT": "eighty"}

    ended = subprocess.run(UP, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert "GATEWAY_PORT" in ended.stderr


@pytest.mark.parametrize("variable", ["GATEWAY_REQUIRE_AUTH", "GATEWAY_JWT_SECRET", "GATEWAY_JWT_ISSUER", "GATEWAY_JWT_VAULT_KV"])
def test_one_variable_closes_the_gate(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"GATEWAY_REQUIRE_AUTH": "true", "GATEWAY_JWT_VAULT_KV": "secret/soma/jwt"}
    assert gate(Settings()) == {"GATEWAY_REQUIRE_AUTH": "false"}
    monkeypatch.setenv(variable, values.get(variable, "https://login.example.com"))
    assert gate(Settings()) == {}


def test_the_gate_is_never_opened_to_other_machines() -> None:
    assert gate(Settings(gateway_host="0.0.0.0")) == {}
