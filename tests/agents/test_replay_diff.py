"""The live log, decided again. The history of a release is kept from here:

SOMA_KEEP_HISTORY=tests/commands/recorded/0.1.0.jsonl.gz pytest tests/agents/test_replay_diff.py
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agents.conftest import Agents
from tests.faults.cluster import ROOT, environment

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def soma(agents: Agents, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ops.cli", *arguments]
    env = environment(agents.cluster.settings)
    return await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=120, check=False)


async def judged(agents: Agents, session: dict[str, Any], verdict: str, **body: Any) -> None:
    """The session's first call, approved or denied."""
    [call] = await agents.calls(session["id"], session["position"])
    where = f"/v1/sessions/{session['id']}/calls/{call['id']}/{verdict}"
    digest = {"arguments_digest": call["arguments_digest"]} if verdict == "approve" else {}
    assert (await agents.client.post(where, json={**digest, **body})).status_code == 200


async def story(agents: Agents) -> None:
    """Tool calls, approvals, limits, cancels and refusals."""
    client = agents.client
    await agents.register("guarded", approval="always", http={"method": "POST", "url": agents.journal.url("/pay")})
    for number in range(4):
        session = await agents.ask(f'/calculator {{"expression": "{number}*7"}}\n/clock {{}}', "calculator", "clock")
        await client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "and now?"})
        await client.post(f"/v1/sessions/{session['id']}/close")
        assert (await client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "late"})).status_code == 409
    await agents.ask('/calculator {"expresion": "1"}', "calculator")
    await agents.ask("/clock {}\n/clock {}", "clock", limits={"calls": 1})
    await judged(agents, await agents.ask("/guarded {}", "guarded"), "approve", note="fine")
    await judged(agents, await agents.ask("/guarded {}", "guarded"), "deny", note="no")
    slow = await agents.ask("/slow {}", "slow", wait=False)
    await client.post(f"/v1/sessions/{slow['id']}/cancel")
    forked = await client.post(f"/v1/sessions/{session['id']}/fork", json={"input": "again"})
    assert forked.status_code == 201
    assert (await client.post("/v1/tool_executor", json={"tool": "clock"})).status_code == 201


async def test_the_live_log_is_decided_again_and_kept(agents: Agents, tmp_path: Path) -> None:
    # given
    await story(agents)
    # when it is decided again by the same code
    same = await soma(agents, "replay-diff", "--against", str(ROOT), "--json")
    # then nothing differs
    assert same.returncode == 0, same.stdout + same.stderr
    report = json.loads(same.stdout)
    assert (report["differences"], report["folded"], report["decided"] > 50) == ([], 0, True)
    # and a kept history says the same
    file = tmp_path / "history.jsonl.gz"
    assert (await soma(agents, "export", "--history", str(file))).returncode == 0
    kept = await soma(agents, "replay-diff", "--against", str(ROOT), "--history", str(file))
    assert (kept.returncode, "0 differences" in kept.stdout) == (0, True), kept.stdout + kept.stderr
    assert (await soma(agents, "replay-diff", "--against", "no-such-ref")).returncode == 2
    if path := os.environ.get("SOMA_KEEP_HISTORY"):
        shutil.copy(file, path)
