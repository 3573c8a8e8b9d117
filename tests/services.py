"""Fixtures for the real Kafka, schema registry and PostgreSQL that tests talk to.

One set of servers for a whole run, however many workers it has, started when the first test asks for one of them.
They come from the environment, else from Testcontainers, else they are the embedded ones.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from ops.embedded.kafka import Kafka
from ops.embedded.maven import exclusive
from ops.embedded.process import free_port, tail
from ops.settings import Settings
from tests.servers import VARIABLES, free, source

_RUN = "SOMA_TEST_RUN"  # the run's directory, handed to the workers through the environment
_LOCK = pytest.StashKey[ExitStack]()
_LONGEST_START = 240.0


class Services(NamedTuple):
    kafka: str
    registry: str
    postgres: str


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    run = Path(tempfile.mkdtemp(prefix="soma-tests-"))
    os.environ[_RUN] = str(run)
    lock = config.stash[_LOCK] = ExitStack()
    lock.enter_context(exclusive(run / "run.lock"))


def pytest_report_header() -> str:
    return f"services: {source(os.environ)}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if _LOCK not in config.stash:
        return
    run = Path(os.environ.pop(_RUN))
    config.stash[_LOCK].close()
    deadline = time.monotonic() + 60
    while not free(run / "servers.lock") and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture(scope="session")
def services() -> Services:
    """The addresses of the run's servers, started by the first worker that asks."""
    run = Path(os.environ[_RUN])
    found = run / "services.json"
    with exclusive(run / "start.lock"):
        if not found.exists():
            _start_owner(run, found)
    addresses = json.loads(found.read_text())
    return Services(*(addresses[name] for name in VARIABLES))


def _start_owner(run: Path, found: Path) -> None:
    log = run / "servers.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.servers", str(run)]
        owner = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + _LONGEST_START
    while not found.exists():
        if owner.poll() is not None or time.monotonic() > deadline:
            pytest.exit(f"The servers that the tests need did not start.\n{tail(log)}", returncode=3)
        time.sleep(0.05)


@pytest.fixture(scope="session")
def kafka(services: Services) -> str:
    """Bootstrap servers of the shared broker: prefix topics, or take `own_kafka` where names are fixed."""
    return services.kafka


@pytest.fixture(scope="session")
def registry(services: Services) -> str:
    """URL of the shared registry's Confluent API."""
    return services.registry


@pytest.fixture
def postgres(services: Services) -> Iterator[str]:
    """URI of a fresh, empty database."""
    with fresh_database(services.postgres) as uri:
        yield uri


@pytest.fixture(scope="module")
def module_postgres(services: Services) -> Iterator[str]:
    """URI of an empty database that the tests of one module share."""
    with fresh_database(services.postgres) as uri:
        yield uri


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    server = server.replace("postgresql+psycopg:", "postgresql:")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker for one test, running: `.bootstrap`; `.kill()` and `await .start()` to see what survives a fault."""
    with running_broker(Kafka(tmp_path, free_port(), free_port())) as broker:
        yield broker


@pytest.fixture(scope="module")
def module_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that the tests of one module share."""
    with running_broker(Kafka(tmp_path_factory.mktemp("kafka"), free_port(), free_port())) as broker:
        yield broker


@contextmanager
def running_broker(broker: Kafka) -> Iterator[Kafka]:
    """The broker, running; at the end it is killed, which is faster than stopping it, and nobody reads its data again."""
    with asyncio.Runner() as runner:
        runner.run(broker.start())
        try:
            yield broker
        finally:
            broker.kill()


@pytest.fixture
def own_platform(own_kafka: Kafka, registry: str, postgres: str, tmp_path: Path) -> Settings:
    """Settings of a platform for one test: a broker and a database of its own, the shared registry, and a free gateway port."""
    return platform_settings(own_kafka, registry, postgres, tmp_path)


@pytest.fixture(scope="module")
def module_platform(module_kafka: Kafka, registry: str, module_postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same, shared by the tests of one module."""
    return platform_settings(module_kafka, registry, module_postgres, tmp_path_factory.mktemp("platform"))


def platform_settings(broker: Kafka, registry: str, database: str, data_dir: Path) -> Settings:
    return Settings(
        soma_data_dir=data_dir,
        kafka_bootstrap_servers=broker.bootstrap,
        schema_registry_url=registry,
        database_url=database,
        gateway_port=free_port(),
        gateway_require_auth=False,
    )
