"""Agents at work on the processes that users run, with a model and with tools that do what a test tells them to."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio

from ops.settings import Settings
from tests.faults.cluster import Cluster, until
from tests.faults.conftest import pytest_runtest_makereport
from tests.gateway.platform import prepare
from tests.streams import script
from tests.streams.script import Script
from tests.streams.tools import server
from tests.streams.tools.making import install
from tests.streams.tools.server import Journal, hangs, says

__all__ = ["pytest_runtest_makereport"]
PARTITIONS = 4
EXPRESSION = {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}


class Agents(NamedTuple):
    """The platform, a client of it, the server of the model `m`, and the server of the tools `slow` and `pay`."""

    cluster: Cluster
    client: httpx.AsyncClient
    script: Script
    journal: Journal

    async def register(self, name: str, **more: Any) -> None:
        definition = {"name": name, "description": "Does it.", "parameters": {"type": "object"}, **more}
        answer = await self.client.post("/v1/tools", json=definition)
        assert answer.status_code in (200, 201), answer.text

    async def ask(self, text: str, *tools: str, wait: bool = True, **more: Any) -> dict[str, Any]:
        """A session with the echo model, which makes the calls that the text's lines name (`/tool {...}`)."""
        headers = {} if wait else {"Prefer": "respond-async"}
        answer = await self.client.post("/v1/sessions", json={"model": "echo", "input": text, "tools": tools, **more}, headers=headers)
        assert answer.status_code == (201 if wait else 202), answer.text
        session: dict[str, Any] = answer.json()
        return session

    async def calls(self, session_id: str, position: str) -> list[dict[str, Any]]:
        """The session's ledger once the command at this position is applied, the oldest call first."""
        answer = await self.client.get(f"/v1/sessions/{session_id}/calls", params={"position": position})
        assert answer.status_code == 200, answer.text
        return list(reversed(answer.json()["calls"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster_agents(module_platform: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Agents]:
    directory = tmp_path_factory.mktemp("agents")
    install(directory / "packages")
    async with script.serving() as (scripted, url), server.serving({"/slow": hangs, "/pay": says("paid")}) as journal:
        settings = module_platform.model_copy(
            update={
                "kafka_cfg_num_partitions": PARTITIONS,
                "gateway_wait_seconds": 60.0,
                "soma_models_file": _models(directory, url),
                "soma_tool_private_hosts": ("127.0.0.1",),
            }
        )
        prepare(settings)
        async with (
            Cluster(settings, directory, PYTHONPATH=str(directory / "packages")) as cluster,
            httpx.AsyncClient(base_url=cluster.url, timeout=90) as client,
        ):
            await cluster.settle(workers=1, executors=1)
            agents = Agents(cluster, client, scripted, journal)
            await agents.register("calculator", python={"entry_point": "calculator"}, parameters=EXPRESSION)
            await agents.register("clock", python={"entry_point": "clock"})
            for name in ("slow", "pay"):
                await agents.register(name, timeout_seconds=300, concurrency=64, http={"method": "POST", "url": journal.url(f"/{name}")})
            await until(lambda: "executor" in cluster.executors[0].written(), "an executor runs")
            yield agents


@pytest_asyncio.fixture(loop_scope="module")
async def agents(cluster_agents: Agents) -> Agents:
    """With servers that forgot the test before."""
    journal, scripted = cluster_agents.journal, cluster_agents.script
    journal.requests.clear()
    journal.left = 0
    for event in (journal.asked, journal.gone, scripted.dropped):
        event.clear()
    scripted.asked.clear()
    scripted.hangs = False
    return cluster_agents


def _models(directory: Path, url: str) -> Path:
    path = directory / "models.json"
    path.write_text(json.dumps([{"name": "m", "base_url": url, "timeout_seconds": 60}]))
    return path
