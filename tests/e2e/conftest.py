"""The platform as a new user gets it: `soma up` in an empty data directory, on free ports."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from ops.embedded.process import free_port, tail
from tests.e2e.collector import Collector

LONGEST_START = 150.0


class Platform(NamedTuple):
    """A running platform: its address, the variables that name its parts, and its output."""

    url: str
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes]"

    def soma(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the CLI against it."""
        command = [sys.executable, "-m", "ops.cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Receives the spans of every process of the platform."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Platform]:
    """Running and healthy; stopped by Ctrl-C at the end."""
    with running(tmp_path_factory.mktemp("up"), collector) as platform:
        yield platform


@contextmanager
def running(directory: Path, collector: Collector, **more: str) -> Iterator[Platform]:
    """`soma up` with these variables besides its own."""
    environment = environment_of(directory, collector.url) | more
    log = directory / "up.log"
    directory.mkdir(exist_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "ops.cli", "up"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    platform = Platform(f"http://127.0.0.1:{environment['GATEWAY_PORT']}", environment, log, process)
    try:
        wait_until_healthy(platform)
        yield platform
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(directory, ignore_errors=True)


def environment_of(directory: Path, collector: str) -> dict[str, str]:
    """An environment of its own: nothing of the machine's settings, every port free."""
    ports = {"gateway": free_port(), "kafka": free_port(), "controller": free_port(), "registry": free_port()}
    own = {
        "SOMA_DATA_DIR": str(directory / "data"),
        "GATEWAY_PORT": str(ports["gateway"]),
        "SOMA_KAFKA_PORT": str(ports["kafka"]),
        "SOMA_KAFKA_CONTROLLER_PORT": str(ports["controller"]),
        "SOMA_REGISTRY_PORT": str(ports["registry"]),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    return {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "SCHEMA_", "DATABASE_"))} | own


def wait_until_healthy(platform: Platform) -> None:
    """Until it is well, and has said so: before that its shipped tools may not be registered yet."""
    deadline = time.monotonic() + LONGEST_START
    while time.monotonic() < deadline:
        if platform.process.poll() is not None:
            break
        try:
            if httpx.get(f"{platform.url}/health", timeout=5).status_code == 200 and "Ctrl-C stops it" in platform.log.read_text():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the platform did not become healthy:\n{tail(platform.log)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the platform said."""
    report: pytest.TestReport = yield
    platform = getattr(item, "funcargs", {}).get("platform")
    if report.failed and isinstance(platform, Platform):
        report.sections.append(("log of the platform", tail(platform.log, 200)))
    return report
