"""The process that owns the servers of one test run: `python -m tests.servers RUN`, RUN being the run's directory.

It starts what the environment does not name, writes the addresses to RUN/services.json, and stops the servers when the test run
lets go of RUN/run.lock, be it that it ended or that it was killed. While it has servers it holds RUN/servers.lock.
"""

import asyncio
import fcntl
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from ops.embedded.errors import EmbeddedError
from ops.embedded.group import Service, running
from ops.embedded.kafka import Kafka
from ops.embedded.maven import exclusive
from ops.embedded.postgres import Postgres
from ops.embedded.process import free_port
from ops.embedded.registry import Registry

VARIABLES = ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "DATABASE_URL")


def source(environment: Mapping[str, str]) -> str:
    """Where the servers of a run come from, for its report header."""
    given = [name for name in VARIABLES if environment.get(name)]
    if len(given) == len(VARIABLES):
        return "all from the environment"
    others = "Testcontainers" if docker_answers() else "embedded servers (no Docker engine answers, so Testcontainers are skipped)"
    return f"{', '.join(given)} from the environment, the rest {others}" if given else others


def docker_answers() -> bool:
    import docker  # slow to import, and not needed where the environment names everything
    from docker.errors import DockerException

    try:
        return bool(docker.from_env(timeout=5).ping())
    except DockerException:
        return False


@asynccontextmanager
async def embedded(directory: Path, missing: set[str]) -> AsyncIterator[dict[str, str]]:
    kafka, registry, postgres = Kafka(directory, free_port(), free_port()), Registry(directory, free_port()), Postgres(directory)
    named: dict[str, Service] = dict(zip(VARIABLES, (kafka, registry, postgres), strict=True))
    async with running([service for name, service in named.items() if name in missing], report=print):
        addresses = dict(zip(VARIABLES, (kafka.bootstrap, registry.url, postgres.uri), strict=True))
        yield {name: addresses[name] for name in missing}


@asynccontextmanager
async def containers(missing: set[str]) -> AsyncIterator[dict[str, str]]:
    """The images and settings of compose.yaml, each by itself on a free port."""
    port = {name: free_port() for name in VARIABLES}
    broker = {"KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://localhost:9092,HOST://127.0.0.1:{port['KAFKA_BOOTSTRAP_SERVERS']}"}
    schemas = {"APICURIO_STORAGE_KIND": "sql", "APICURIO_STORAGE_SQL_KIND": "h2", "APICURIO_DATASOURCE_URL": "jdbc:h2:mem:schemas"}
    database = {"POSTGRES_PASSWORD": "test"}
    with ExitStack() as stack:
        for name, service, inner, overrides in (
            ("KAFKA_BOOTSTRAP_SERVERS", "kafka", 9094, broker),
            ("SCHEMA_REGISTRY_URL", "registry", 8080, schemas),
            ("DATABASE_URL", "postgres", 5432, database),
        ):
            if name in missing:
                stack.enter_context(_container(service, inner, port[name], overrides))
        yield {
            name: address
            for name, address in {
                "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port['KAFKA_BOOTSTRAP_SERVERS']}",
                "SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port['SCHEMA_REGISTRY_URL']}/apis/ccompat/v7",
                "DATABASE_URL": f"postgresql://soma:test@127.0.0.1:{port['DATABASE_URL']}/soma",
            }.items()
            if name in missing
        }


# What each says once it serves. PostgreSQL's image says it first of a server that is there for its preparations only.
_READY = {
    "kafka": "Kafka Server started",
    "registry": "Listening on",
    "postgres": "(?s)ready to accept connections.*ready to accept connections",
}


def _container(service: str, inner: int, outer: int, overrides: Mapping[str, str]) -> Any:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    described = yaml.safe_load(Path("compose.yaml").read_text())["services"][service]
    container = DockerContainer(described["image"]).with_envs(**{**described["environment"], **overrides})
    container.ports[str(inner)] = ("127.0.0.1", outer)  # type: ignore[assignment] # `with_bind_ports` would bind every interface
    return container.waiting_for(LogMessageWaitStrategy(re.compile(_READY[service])).with_startup_timeout(120))


async def own(run: Path) -> None:
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    missing = set(VARIABLES) - set(given)
    async with AsyncExitStack() as stack:
        if missing:
            servers = containers(missing) if docker_answers() else embedded(run, missing)
            given |= await stack.enter_async_context(servers)
        unfinished = run / "services.json.new"
        unfinished.write_text(json.dumps(given))
        unfinished.rename(run / "services.json")
        while not free(run / "run.lock"):
            await asyncio.sleep(0.2)


def free(lock: Path) -> bool:
    """Whether the process that held this lock has let go of it or is dead."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    try:
        with exclusive(directory / "servers.lock"):
            asyncio.run(own(directory))
    except EmbeddedError as error:
        sys.exit(str(error))
