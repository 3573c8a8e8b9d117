"""Executors are killed at every place and at any moment: what must not run twice does not, by the journal of the tool itself."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.faults.cluster import Cluster, Process, until
from tests.faults.conftest import PARTITIONS, SEED, rounds
from tests.streams.tools.server import Journal, Request, says, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
FAILPOINTS = ("executor.claiming:3", "executor.begun:3", "executor.ran:3", "executor.reported:3")
SESSIONS = 6
"""That begin between two kills, each with a call of each tool."""
OPEN = ("awaiting", "queued", "running")
TURN = '/pay {"n": %d}\n/order {"n": %d}\n/add {"n": %d}'
"""`pay` and `order` must never run twice, and `order` can be asked how a call ended; `add` may run again."""


PATIENT = "from commands import call\n\ncall.BEGIN_SECONDS = 3_600\n"
"""Read by Python as it starts. A call that no executor begins waits longer than any trial: so one that is lost is not taken for one whose
executors were slow to come."""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("patient")
    (directory / "sitecustomize.py").write_text(PATIENT)
    return {"PYTHONPATH": str(directory)}


@dataclass
class Shop:
    """Tools that keep a journal of their runs, and sessions that call each of them once."""

    cluster: Cluster
    client: httpx.AsyncClient
    web: Journal
    random: random.Random
    sessions: list[str] = field(default_factory=list)
    kills: int = 0

    async def visit(self, number: int = SESSIONS, turn: str = TURN, tools: tuple[str, ...] = ("pay", "order", "add")) -> None:
        """So many sessions begin; nobody waits for them."""
        for _ in range(number):
            text = turn.replace("%d", str(len(self.sessions)))
            body = {"model": "echo", "tools": tools, "input": text}
            started = await self.client.post("/v1/sessions", json=body, headers={"Prefer": "respond-async"})
            assert started.status_code == 202, started.text
            self.sessions.append(started.json()["id"])
            await asyncio.sleep(self.random.uniform(0, 0.1))

    def kill(self, victim: Process) -> None:
        victim.kill()
        self.kills += 1

    def runs(self, tool: str) -> Counter[str]:
        """How often the tool ran, by idempotency key: its own journal."""
        return Counter(each.headers["idempotency-key"] for each in self.web.requests if each.target == f"/{tool}")

    async def ledger(self, each: int, done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All calls, once there are so many of each session and all are `done`."""
        calls = list[dict[str, Any]]()
        async with asyncio.timeout(150):
            while len(calls) < each * len(self.sessions) or not all(map(done, calls)):
                await asyncio.sleep(0.5)
                calls = [call for session in self.sessions for call in await self._calls(session)]
        return calls

    async def _calls(self, session: str) -> list[dict[str, Any]]:
        answer = await self.client.get(f"/v1/sessions/{session}/calls")
        found: list[dict[str, Any]] = answer.json().get("calls", [])
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web() -> AsyncIterator[Journal]:
    """The tools' server. It lives in this process, which nobody kills."""

    async def work(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(random.uniform(0, 0.2))
        await says("done")(request, writer)

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)
        await says("done")(request, writer)

    async def status(request: Request, writer: asyncio.StreamWriter) -> None:
        call = request.target.rpartition("=")[2]
        ran = any(each.headers["idempotency-key"] == call for each in journal.requests if each.target == "/order")
        await says("done" if ran else "", "200 OK" if ran else "404 Not Found")(request, writer)

    async with serving({"/pay": work, "/order": work, "/add": work, "/status": status, "/slow": slow}) as journal:
        yield journal


@pytest_asyncio.fixture(loop_scope="module")
async def shop(cluster: Cluster, web: Journal) -> AsyncIterator[Shop]:
    """Two workers and two executors that are well; the tools are registered, and their journal is empty."""
    await cluster.settle(executors=2)
    cluster.trials += 1
    async with httpx.AsyncClient(base_url=cluster.url, timeout=30) as client:
        for name in ("pay", "order", "add", "slow"):
            use = {"repeat": "safe", "attempts": 10} if name == "add" else {"repeat": "never"}
            http = {"method": "POST", "url": web.url(f"/{name}")}
            if name == "order":
                http["status_url"] = web.url("/status?call={call}")
            about = {"name": name, "description": "Of the shop.", "parameters": {"type": "object"}, "concurrency": 100, "http": http}
            registered = await client.post("/v1/tools", json={**about, **use, "timeout_seconds": 30 if name == "slow" else 5})
            assert registered.status_code in (200, 201), registered.text
        web.requests.clear()
        yield Shop(cluster, client, web, random.Random(f"{SEED}.{cluster.trials}"))


async def audit(name: str, shop: Shop, say: Callable[[str, object], None]) -> None:
    """Whether the tools' journal and the ledger agree, and nothing ran twice that must not."""

    def over(call: dict[str, Any]) -> bool:
        """An order that ran is settled by its status address."""
        return call["status"] == "done" or (
            call["status"] == "unknown" and not (call["tool"] == "order" and shop.runs("order")[call["id"]])
        )

    calls, number = await shop.ledger(3, over), len(shop.sessions)
    outcomes = {tool: Counter(call["outcome"] for call in calls if call["tool"] == tool) for tool in ("pay", "order", "add")}
    twice = {tool: sum(times > 1 for times in shop.runs(tool).values()) for tool in ("pay", "order")}
    repeated = sum(times - 1 for times in shop.runs("add").values())
    line = f"{name}: seed {SEED}.{shop.cluster.trials}, {number} sessions, {shop.kills} kills; ran twice that must not: {twice}; "
    line += "; ".join(f"{tool} {dict(outcome)}" for tool, outcome in outcomes.items()) + f", {repeated} runs of it repeated"
    say("faults", line)
    assert not any(twice.values()), line
    assert outcomes["add"].keys() <= {"ok"}, line
    for tool in ("pay", "order"):
        assert outcomes[tool].keys() <= {"ok", "unknown"}, line
        assert shop.runs(tool).keys() <= {call["id"] for call in calls}, "every key is a call of the ledger"
    untrue = [call for call in calls if call["outcome"] == "ok" and not shop.runs(call["tool"])[call["id"]]]
    assert not untrue, "what is ok has run"


@rounds(short=1)
async def test_executors_killed_at_each_failpoint(shop: Shop, rounds: int, record_property: Callable[[str, object], None]) -> None:
    victim, other = shop.cluster.executors

    def ended() -> None:
        shop.kills += victim.endings[-1] == -signal.SIGKILL

    for _ in range(rounds):
        # given that one executor runs everything, in lives that end at these places, one after the other
        await other.stop()
        await victim.destroy()
        victim.keep([{"SOMA_FAILPOINT": name} for name in FAILPOINTS], ended)
        for lives in range(1, len(FAILPOINTS) + 1):
            await shop.visit()
            await until(lambda lives=lives: len(victim.endings) >= lives, "the failpoint is reached")  # type: ignore[misc]
        # when the other one is back
        await shop.cluster.settle(executors=2)
        await shop.visit()
    # then
    assert shop.kills == rounds * len(FAILPOINTS)
    await audit("executors killed at failpoints", shop, record_property)


@rounds(short=1)
async def test_executors_killed_at_random_moments(shop: Shop, rounds: int, record_property: Callable[[str, object], None]) -> None:
    cluster = shop.cluster
    for _ in range(rounds):
        for _ in range(3):
            await shop.visit()
            await asyncio.sleep(shop.random.uniform(0, 3))
            shop.kill(shop.random.choice(cluster.executors))
        shop.kill(shop.random.choice(cluster.workers))
        await shop.visit()
    await audit("executors killed at random", shop, record_property)


@rounds(short=1)
async def test_long_calls_survive_the_takeover_of_their_worker(shop: Shop, rounds: int) -> None:
    workers = shop.cluster.workers
    for number in range(rounds):
        # given calls that take their time
        await shop.cluster.settle(executors=2)
        await shop.visit(4, '/slow {"n": %d}', ("slow",))
        await until(lambda: len(shop.runs("slow")) == len(shop.sessions), "all of them run")
        # when a worker dies, and the other one takes its partitions
        await workers[number % 2].destroy()
        await until(partial(owns_all, workers[1 - number % 2]), "the survivor owns everything")
        # then each ends well, having run once
        calls = await shop.ledger(1, lambda call: call["status"] not in OPEN)
        assert [(call["outcome"], len(call["attempts"])) for call in calls] == [("ok", 1)] * len(shop.sessions)
        assert set(shop.runs("slow").values()) == {1}


def owns_all(worker: Process) -> bool:
    return len(worker.owned()) == PARTITIONS
