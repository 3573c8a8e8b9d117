"""Agents at work: the platform's own processes, a scripted model, and tools that a test makes behave as it likes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from ops.settings import Settings
from tests.faults.cluster import Cluster
from tests.faults.conftest import pytest_runtest_makereport
from tests.gateway.platform import prepare
from tests.scripted.model import Says, ScriptedModel, scripted
from tests.streams.tools.server import Answer, Journal, serving

__all__ = ["pytest_runtest_makereport"]
_numbers = itertools.count()


@dataclass
class Stand:
    """The platform and what surrounds it. `web` is a server on loopback whose answers belong to the tests."""

    cluster: Cluster
    client: httpx.AsyncClient
    model: ScriptedModel
    web: Journal

    async def tool(self, name: str, answer: Answer | None = None, **fields: Any) -> str:
        """Register a tool at an address of its own that gives this answer."""
        about: dict[str, Any] = {"name": name, "description": f"The tool {name}.", "parameters": {"type": "object"}, "repeat": "safe"}
        if answer:
            self.web.answers[f"/{name}"] = answer
            about["http"] = {"method": "POST", "url": self.web.url(f"/{name}")}
        registered = await self.client.post("/v1/tools", json=about | fields)
        assert registered.status_code == 201, registered.text
        return name

    async def run(self, *script: Says, tools: list[str], **terms: Any) -> dict[str, Any]:
        """A session whose model says this, once its first turn is over or waits for a person."""
        about = f"script {next(_numbers)}"
        self.model.scripts[about] = list(script)
        started = await self.client.post("/v1/sessions", json={"model": "scripted", "input": about, "tools": tools, **terms})
        assert started.status_code in (201, 202), started.text
        return await self.settled(started.json()["id"])

    async def settled(self, session: str) -> dict[str, Any]:
        """The session, once it waits for its caller or for a person, or has ended."""
        async with asyncio.timeout(60):
            while True:
                shown: dict[str, Any] = (await self.client.get(f"/v1/sessions/{session}")).json()
                if shown.get("status") in ("idle", "waiting", "ended"):
                    return shown
                await asyncio.sleep(0.1)

    def prompts(self, session: dict[str, Any]) -> list[dict[str, Any]]:
        """What the model was asked for this session."""
        return self.model.asked[session["messages"][0]["content"]]

    async def calls(self, session: dict[str, Any]) -> list[dict[str, Any]]:
        """The session's ledger with text, in the order of the replies."""
        path = f"/v1/sessions/{session['id']}/calls"
        listed = (await self.client.get(path, params={"position": session["position"], "limit": 100})).json()["calls"]
        return [(await self.client.get(f"{path}/{entry['id']}")).json() for entry in reversed(listed)]

    def runs(self, name: str) -> list[str]:
        """The idempotency keys with which this tool was called, in order."""
        return [each.headers["idempotency-key"] for each in self.web.requests if each.target == f"/{name}"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(module_platform: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    """Everything runs: a gateway, a worker, a projector and an executor, as processes."""
    directory = tmp_path_factory.mktemp("agents")
    async with scripted() as model, serving({}) as web:
        models = directory / "models.yaml"
        models.write_text(yaml.safe_dump([{"name": "scripted", "base_url": model.url, "timeout_seconds": 30}]))
        changes = {
            "kafka_cfg_num_partitions": 2,
            "gateway_wait_seconds": 20.0,
            "soma_models_file": models,
            "soma_tool_private_hosts": ("127.0.0.1",),
        }
        settings = module_platform.model_copy(update=changes)
        await asyncio.to_thread(prepare, settings)
        async with Cluster(settings, directory) as cluster, httpx.AsyncClient(base_url=cluster.url, timeout=40) as client:
            await cluster.settle(workers=1, executors=1)
            yield Stand(cluster, client, model, web)


@pytest.fixture
def cluster(stand: Stand) -> Cluster:
    """For what a failure shows: the processes' logs."""
    return stand.cluster
