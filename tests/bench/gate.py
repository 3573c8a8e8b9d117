"""What the gate costs: the same platform through a gateway with everything on, and through one that asks nobody, in turns."""

import statistics
import time
from typing import Any

import aiohttp

from gateway.auth import Principal
from gateway.token import issue
from ops.embedded.process import free_port
from tests.bench.load import sessions
from tests.faults.cluster import Cluster, Process, environment, until

SECRET = "a secret of this measurement, long enough"
ON = {
    "GATEWAY_REQUIRE_AUTH": "true",
    "GATEWAY_JWT_SECRET": SECRET,
    "SOMA_KEYS_PEPPER": "a pepper of this measurement, long enough",
    "SOMA_COMMAND_KEY": "5a" * 32,
}
"""Embedded policies and the audit are always on."""
TURNS = 10


async def gate(cluster: Cluster, count: int, at_once: int) -> dict[str, Any]:
    """p50 of `count` sessions one at a time, by how callers sign in, and `at_once` all at once. The processes must have ON."""
    await cluster.settle(workers=1)
    env = environment(cluster.settings) | {"SOMA_COMMAND_KEY": ON["SOMA_COMMAND_KEY"], "GATEWAY_PORT": str(free_port())}
    ungated, address = Process("gateway", env, cluster.directory / "ungated.log"), f"http://127.0.0.1:{env['GATEWAY_PORT']}"
    await ungated.start(module="tests.bench.ungated")
    try:
        await until(lambda: "Uvicorn running" in ungated.written(), "the ungated gateway serves")
        callers = {"nobody is asked": (address, {}), **await _callers(cluster)}
        p50: dict[str, list[float]] = {name: [] for name in callers}
        for url, headers in callers.values():
            await sessions(url, 1, 20, headers=headers)
        for _ in range(TURNS):
            for name, (url, headers) in callers.items():
                p50[name].append((await sessions(url, 1, max(count // TURNS, 5), headers=headers)).p50)
        url, headers = callers["by a key"]
        loop = await sessions(url, at_once, 2 * at_once, headers=headers)
    finally:
        await ungated.stop()
    return {"p50": {name: statistics.median(turns) for name, turns in p50.items()}, "at_once": loop._asdict()}


async def _callers(cluster: Cluster) -> dict[str, tuple[str, dict[str, str]]]:
    """How somebody signs in, and the headers that it takes."""
    settings = cluster.settings.model_copy(update={"gateway_jwt_secret": SECRET})
    ada = Principal("acme", "ada", scopes=frozenset({"*"}))
    token = {"Authorization": f"Bearer {issue(settings, ada, 3600, int(time.time()))}"}
    wanted = {"name": "bench", "scopes": ["*"]}
    async with aiohttp.ClientSession(cluster.url, headers=token) as client, client.post("/v1/keys", json=wanted) as made:
        key = {"Authorization": f"Bearer {(await made.json())['secret']}"}
    return {"by a token": (cluster.url, token), "by a key": (cluster.url, key)}
