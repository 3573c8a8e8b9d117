"""The whole way with sealed text: nothing of it is readable anywhere, save to who holds the keys; and after an erasure to nobody."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest_asyncio

from ops import seal_file
from ops.settings import Settings
from tests.faults.cluster import Process, environment, until
from tests.gateway.search import files, tables, topics

ROLES = ("worker", "projector", "executor", "gateway")
SAID, TOLD, ASKED, NOTED, LONG = "said-5b1e", "told-77ac", "asked-90d3", "noted-31f0", "long-8d2c"
FORGETS_SECONDS = 15.0
"""Longer than a process keeps a key at hand."""


class Platform(NamedTuple):
    """The processes that users run, sealing with keys in files."""

    settings: Settings
    client: httpx.AsyncClient
    logs: Path

    def soma(self, *arguments: str) -> str:
        """What a command of the CLI prints."""
        command = [sys.executable, "-m", "ops.cli", *arguments]
        done = subprocess.run(command, env=environment(self.settings), capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def post(self, path: str, status: int, **body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def kept(self) -> dict[str, bytes]:
        """All that is kept of the platform."""
        return dict(topics(self.settings)) | dict(tables(self.settings)) | dict(files(self.settings.soma_data_dir)) | dict(files(self.logs))

    def places_of(self, *texts: str) -> list[str]:
        return [f"{text} in {place}" for place, held in self.kept().items() for text in texts if text.encode() in held]


@pytest_asyncio.fixture
async def platform(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Platform]:
    """Tools are among those that are shipped, and one that says more than fits into the record."""
    settings = own_settings.model_copy(update={"soma_seal": "local", "soma_data_dir": tmp_path / "data", "gateway_require_auth": False})
    settings.soma_data_dir.mkdir()
    seal_file.make(settings)
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    processes = [Process(role, environment(settings), logs / f"{role}.log") for role in ROLES]
    for process in processes:
        await process.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}", timeout=40) as client:
        await until(lambda: "of soma.audit.commands" in (logs / "worker.log").read_text(), "the worker owns the audit")
        await _healthy(client)
        yield Platform(settings, client, logs)
    for process in reversed(processes):
        await process.stop()


async def test_a_subject_is_erased_in_the_middle_of_its_session_and_nobody_reads_it_any_more(platform: Platform) -> None:
    # given sessions of two subjects
    erased = await platform.post("/v1/sessions", 201, model="echo", input=SAID, instructions=TOLD, subject="ada")
    other = await platform.post("/v1/sessions", 201, model="echo", input=ASKED, subject="bob")
    assert erased["messages"][-1]["content"] == f"echo: {SAID}"
    # then who may read them does, and nothing that is kept shows a word of it
    assert (await platform.get(f"/v1/sessions/{erased['id']}"))["messages"][0]["content"] == SAID
    assert SAID in platform.soma("show", erased["id"], "--unseal", "--json")
    assert SAID not in platform.soma("show", erased["id"], "--json")
    assert platform.places_of(SAID, TOLD, ASKED) == []
    # when one of them is erased
    printed = platform.soma("erase", "--subject", "ada", "--yes")
    assert "destroyed: key " in printed
    await _until_sealed(platform, erased["id"])
    # then its text is sealed for good, to the CLI too
    assert SAID not in platform.soma("show", erased["id"], "--unseal", "--json")
    # and it cannot go on, but can be cancelled
    refused = await platform.post(f"/v1/sessions/{erased['id']}/messages", 410, input="and now?")
    assert refused["code"] == "erased"
    assert (await platform.post(f"/v1/sessions/{erased['id']}/cancel", 200))["outcome"] == "cancelled"
    # and the other one goes on
    again = await platform.post(f"/v1/sessions/{other['id']}/messages", 200, input="still there?")
    assert [each["content"] for each in again["messages"]] == [ASKED, f"echo: {ASKED}", "still there?", "echo: still there?"]
    # and the record holds, with the erasure in it, which does not name whom it was about

    decision = await _recorded(platform, "subject.erase")
    assert (decision["kind"], "ada" in json.dumps(decision)) == ("operator", False)
    # and the same subject may come back
    back = await platform.post("/v1/sessions", 201, model="echo", input="hello again", subject="ada")
    assert back["messages"][0]["content"] == "hello again"


async def _until_sealed(platform: Platform, session_id: str) -> None:
    async with asyncio.timeout(FORGETS_SECONDS):
        while any(isinstance(each["content"], str) for each in (await platform.get(f"/v1/sessions/{session_id}"))["messages"]):
            await asyncio.sleep(0.2)


async def _recorded(platform: Platform, action: str) -> Any:
    async with asyncio.timeout(30):
        while not (found := (await platform.get(f"/v1/audit?action={action}"))["decisions"]):
            await asyncio.sleep(0.2)
    return found[0]


async def _healthy(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                if (await client.get("/health")).json()["parts"]["gateway"]["status"] == "ok":
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
