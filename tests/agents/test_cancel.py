"""A cancel stops what runs, lets nothing begin any more, and the record says at what point each effect was."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agents.conftest import Agents
from tests.faults.cluster import environment, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def cancel(agents: Agents, session_id: str) -> dict[str, Any]:
    answer = await agents.client.post(f"/v1/sessions/{session_id}/cancel", json={"reason": "enough"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "cancelled"), answer.text
    session: dict[str, Any] = answer.json()
    return session


def shown(agents: Agents, session_id: str) -> list[str]:
    """What `soma show` says of the moment of the cancel."""
    command = [sys.executable, "-m", "ops.cli", "show", session_id]
    ran = subprocess.run(command, env=environment(agents.cluster.settings), capture_output=True, text=True, timeout=90, check=True)
    return [line.strip() for line in ran.stdout.partition("When the cancel came:")[2].splitlines() if line.strip()]


async def events(agents: Agents, session: dict[str, Any]) -> list[str]:
    page = await agents.client.get(
        f"/v1/sessions/{session['id']}/events",
        params={"position": session["position"], "limit": 500},
        headers={"Accept": "application/json"},
    )
    return [event["type"] for event in page.json()["events"]]


async def test_a_slow_request_is_dropped_and_what_waited_never_begins(agents: Agents) -> None:
    # given a tool that takes one call at a time, and a reply that asks for two
    await agents.register("single", concurrency=1, repeat="never", http={"method": "POST", "url": agents.journal.url("/slow")})
    session = await agents.ask('/single {"n": 1}\n/single {"n": 2}', "single", wait=False)
    await agents.journal.asked.wait()
    # when
    ended = await cancel(agents, session["id"])
    # then its connection is dropped
    await asyncio.wait_for(agents.journal.gone.wait(), 20)
    # and the ledger says what ran
    first, second = await agents.calls(session["id"], ended["position"])
    assert (first["status"], second["status"]) == ("cancelled", "cancelled")
    ran, waited = sorted((first, second), key=lambda call: -len(call["attempts"]))
    assert [attempt["reason"] for attempt in ran["attempts"]] == ["the session was cancelled"]
    assert waited["attempts"] == []
    # and nothing began after the cancel
    types = await events(agents, ended)
    assert types[types.index("SessionCancelled") :] == ["SessionCancelled"]
    assert len(agents.journal.requests) == 1
    # and the record says so to an operator
    executor = ran["attempts"][0]["executor"]
    assert set(shown(agents, session["id"])) == {
        f"call single {ran['id']}: attempt 1 running at executor {executor}: outcome unknown",
        f"call single {waited['id']}: queued, never began",
    }


async def test_a_python_tools_process_is_gone(agents: Agents, tmp_path: Path) -> None:
    # given a tool whose process holds a pipe open, as does another one that it started
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    await agents.register("lingers", python={"entry_point": "lingers"})
    session = await agents.ask(f'/lingers {{"pipe": "{pipe}"}}', "lingers", wait=False)
    reader = await asyncio.to_thread(pipe.open)
    assert await asyncio.to_thread(reader.read, 1) == "x"
    # when
    ended = await cancel(agents, session["id"])
    # then both are dead
    assert await asyncio.wait_for(asyncio.to_thread(reader.read), 20) == ""
    [call] = await agents.calls(session["id"], ended["position"])
    assert (call["status"], len(call["attempts"])) == ("cancelled", 1)


async def test_a_slow_models_stream_is_closed(agents: Agents) -> None:
    # given a model that has written something and goes on thinking
    agents.script.hangs = True
    answer = await agents.client.post("/v1/sessions", json={"model": "m", "input": "hello"}, headers={"Prefer": "respond-async"})
    async with asyncio.timeout(30):
        while not agents.script.asked:
            await asyncio.sleep(0.02)
    # when
    ended = await cancel(agents, answer.json()["id"])
    # then
    await asyncio.wait_for(agents.script.dropped.wait(), 20)
    assert await events(agents, ended) == ["SessionStarted", "MessagePosted", "ReplyRequested", "SessionCancelled"]
    assert shown(agents, ended["id"]) == ["model call 3: running, interrupted"]


async def test_a_cancel_reaches_calls_whose_partition_another_executor_has_got(agents: Agents) -> None:
    # given a call in each partition, all at one executor
    sessions: list[dict[str, Any]] = []
    while {int(session["id"][-3:], 16) % 1024 for session in sessions} != set(range(agents.cluster.settings.kafka_cfg_num_partitions)):
        sessions.append(await agents.ask("/slow {}", "slow", wait=False))
    async with asyncio.timeout(60):
        while len(agents.journal.requests) < len(sessions):
            await asyncio.sleep(0.05)
    # when another one comes, and gets some of the partitions
    other = agents.cluster.executors[1]
    await other.start()
    await until(lambda: "own partitions [" in other.written(), "the other one has partitions")
    for session in sessions:
        await cancel(agents, session["id"])
    # then every request is dropped
    async with asyncio.timeout(30):
        while agents.journal.left < len(sessions):
            await asyncio.sleep(0.05)
    await other.stop()
