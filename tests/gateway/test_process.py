"""The process: what it says and how it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from ops.settings import Settings

BODY = {"model": "echo"}


@contextmanager
def gateway(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A gateway of its own, serving."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "SCHEMA_REGISTRY_URL": settings.schema_registry_url or "",
        "DATABASE_URL": settings.database_url or "",
        "GATEWAY_PORT": str(settings.gateway_port),
        "GATEWAY_REQUIRE_AUTH": "false",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "gateway"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 60
        while not _healthy(settings):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


def _healthy(settings: Settings) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{settings.gateway_port}/health").is_success
    except httpx.TransportError:
        return False


def test_everything_that_is_missing_is_named_at_once() -> None:
    names = ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    ended = subprocess.run(
        [sys.executable, "-m", "ops.cli", "gateway"],
        env={**environment, "SOMA_MODELS_FILE": "/nowhere"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in (*names, "SOMA_MODELS_FILE")), ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(module_settings: Settings, number: signal.Signals) -> None:
    # given
    with gateway(module_settings) as process, httpx.Client(base_url=f"http://127.0.0.1:{module_settings.gateway_port}") as client:
        accepted = client.post("/v1/sessions", json=BODY, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        # when
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    # then
    assert (process.returncode, "Traceback" in output) == (0, False), output
