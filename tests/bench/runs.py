"""Runs of three steps (model, tool, model), and how soon a cancel stops a tool."""

import time
from typing import Any

import aiohttp

from tests.bench.load import sessions
from tests.faults.cluster import Cluster, until
from tests.streams.tools.server import Journal, hangs, serving

RUN = {"model": "echo", "tools": ["calculator"], "input": '/calculator {"expression": "6*7"}'}
SLOW = {"model": "echo", "tools": ["slow"], "input": "/slow {}"}
PRIVATE = {"SOMA_TOOL_PRIVATE_HOSTS": "127.0.0.1"}


async def runs(cluster: Cluster, loops: list[tuple[int, int]], cancels: int) -> dict[str, Any]:
    """With one executor. The processes must have PRIVATE in their environment."""
    cluster.executors[0].keep()
    async with serving({"/slow": hangs}) as journal, aiohttp.ClientSession(cluster.url) as client:
        await until(lambda: "own partitions [" in cluster.executors[0].written(), "an executor has partitions")
        await _register(client, "calculator", concurrency=16, python={"entry_point": "calculator"})
        await _register(client, "slow", http={"method": "POST", "url": journal.url("/slow")})
        await sessions(cluster.url, 4, 40, RUN)
        measured = [await sessions(cluster.url, concurrent, count, RUN) for concurrent, count in loops]
        stopped = sorted([await _cancelled(client, journal) for _ in range(cancels)])
    p50, p99 = stopped[len(stopped) // 2], stopped[min(len(stopped) - 1, int(len(stopped) * 0.99))]
    return {"loops": [loop._asdict() for loop in measured], "cancel": {"count": cancels, "p50": p50, "p99": p99}}


async def _register(client: aiohttp.ClientSession, name: str, **more: Any) -> None:
    definition = {"name": name, "description": "Does it.", "parameters": {"type": "object"}, **more}
    async with client.post("/v1/tools", json=definition) as answer:
        answer.raise_for_status()


async def _cancelled(client: aiohttp.ClientSession, journal: Journal) -> float:
    """Milliseconds from the answer that a cancel is in the log to the end of the tool's request."""
    journal.asked.clear()
    journal.gone.clear()
    at_once = {"Prefer": "respond-async"}
    async with client.post("/v1/sessions", json=SLOW, headers=at_once) as answer:
        session = (await answer.json())["id"]
    await journal.asked.wait()
    async with client.post(f"/v1/sessions/{session}/cancel", headers=at_once) as answer:
        answer.raise_for_status()
        accepted = time.perf_counter()
    await journal.gone.wait()
    return (time.perf_counter() - accepted) * 1000
