"""The whole way with sealed text: nothing of it is readable anywhere, save to who holds the keys; and after an erasure to nobody."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
import yaml

from ops import kafka, seal, seal_file
from ops.embedded.process import free_port
from ops.log import Log
from ops.settings import Settings
from schemas.ids import partition_of
from streams.orchestrator import OUTPUT
from streams.report import ERASED
from tests.faults.cluster import Process, environment, until
from tests.gateway.bao import ROOT, running
from tests.gateway.platform import healthy
from tests.gateway.search import files, tables, topics
from tests.scripted.model import Says, ScriptedModel, scripted
from tests.streams.tools.server import Request, says, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
ROLES = ("worker", "projector", "executor", "gateway")
SAID, TOLD, ASKED, CHANGED, ADA = "said-5b1e", "told-77ac", "asked-90d3", "changed-4f6a", "ada-6c1d"
NOTED, LONG, FAILED = "noted-31f0", "long-8d2c", "failed-2b7d"
BEGUN, WANTED, FOUND = "begun-e0a4", "wanted-61fd", "found-93bb"
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted() as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    request: pytest.FixtureRequest, module_settings: Settings, model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """Sealing is on, with keys in files, or in Vault where a test asks for them there; logs tell everything."""
    directory = tmp_path_factory.mktemp("sealing")
    own = {"soma_data_dir": directory / "data", "soma_tool_private_hosts": ("127.0.0.1",), "soma_log_level": "DEBUG"}
    own |= {"gateway_require_auth": False, "gateway_port": free_port(), "soma_seal": getattr(request, "param", "local")}
    (models := directory / "models.yaml").write_text(yaml.safe_dump([{"name": "scripted", "base_url": model.url}]))
    settings, logs = module_settings.model_copy(update=own | {"soma_models_file": models}), directory / "logs"
    for each in (logs, settings.soma_data_dir):
        each.mkdir()
    with ExitStack() as stack:
        if settings.soma_seal == "vault":
            bao = stack.enter_context(running(directory))
            bao.client.sys.enable_secrets_engine("transit")
            settings = settings.model_copy(update={"vault_addr": bao.url, "vault_token": ROOT})
        else:
            seal_file.make(settings)
        async with _processes(settings, logs) as client:
            yield Platform(settings, client, logs)


@asynccontextmanager
async def _processes(settings: Settings, logs: Path) -> AsyncIterator[httpx.AsyncClient]:
    processes = [Process(role, environment(settings), logs / f"{role}.log") for role in ROLES]
    for process in processes:
        await process.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.gateway_port}", timeout=40) as client:
        await until(lambda: "of soma.audit.commands" in (logs / "worker.log").read_text(), "the worker owns the audit")
        await healthy(client)
        yield client
    for process in reversed(processes):
        await process.stop()


@pytest.mark.parametrize("platform", ["local", "vault"], indirect=True)
async def test_a_subject_is_erased_in_the_middle_of_its_session_and_nobody_reads_it_any_more(platform: Platform) -> None:
    # given sessions of two subjects
    erased = await platform.post("/v1/sessions", 201, model="echo", input=SAID, instructions=TOLD, subject=ADA)
    body, key = {"model": "echo", "input": ASKED, "subject": "bob"}, {"Idempotency-Key": f"once-{platform.settings.soma_seal}"}
    first, again, changed = [
        await platform.client.post("/v1/sessions", json=body | more, headers=key) for more in ({}, {}, {"input": "another"})
    ]
    other = first.json()
    assert (again.headers["Idempotency-Replayed"], again.json(), changed.status_code) == ("true", other, 422)
    assert erased["messages"][-1]["content"] == f"echo: {SAID}"
    # then who may read them does, and nothing that is kept shows a word of it
    assert (await platform.get(f"/v1/sessions/{erased['id']}"))["messages"][0]["content"] == SAID
    assert SAID in platform.soma("show", erased["id"], "--unseal", "--json")
    assert platform.places_of(SAID, TOLD, ASKED, ADA) == []
    # when one of them is erased
    printed = platform.soma("erase", "--subject", ADA, "--yes")
    assert "destroyed: key " in printed
    await _until_sealed(platform, erased["id"])
    # then its text is sealed for good, to the CLI too
    assert SAID not in platform.soma("show", erased["id"], "--unseal", "--json")
    # and it cannot go on, but can be cancelled
    refused = await platform.post(f"/v1/sessions/{erased['id']}/messages", 410, input="and now?")
    assert refused["code"] == "erased"
    assert (await platform.post(f"/v1/sessions/{erased['id']}/cancel", 200))["outcome"] == "cancelled"
    # and its events are told, in their order, to their end
    stream = (await platform.client.get(f"/v1/sessions/{erased['id']}/events")).text
    assert ('"sealed":' in stream, SAID in stream, "event: SessionCancelled" in stream) == (True, False, True)
    # and the other one goes on
    on = await platform.post(f"/v1/sessions/{other['id']}/messages", 200, input="still there?")
    assert [each["content"] for each in on["messages"]] == [ASKED, f"echo: {ASKED}", "still there?", "echo: still there?"]
    # and the record and the read model hold, with the erasure in them, which does not name whom it was about
    decision = await _recorded(platform, "subject.erase")
    assert (decision["kind"], decision["outcome"], ADA in json.dumps(decision)) == ("operator", "allowed", False)
    platform.soma("verify", "--chain")
    platform.soma("verify")
    # and the same subject may come back
    back = await platform.post("/v1/sessions", 201, model="echo", input="hello again", subject=ADA)
    assert back["messages"][0]["content"] == "hello again"


async def test_what_tools_are_asked_and_say_is_sealed_and_erased_too(platform: Platform) -> None:
    whole = LONG + "x" * (80 << 10)
    answers = {"/tell": says(whole, content_type="text/plain"), "/fail": says(FAILED, "500 Internal Server Error")}
    async with serving(answers) as server:
        # given a tool that says more than the record takes, and one that fails in words
        for name in ("tell", "fail"):
            parameters = {"type": "object", "properties": {"to": {"type": "string"}}}
            http = {"method": "POST", "url": server.url(f"/{name}")}
            approval = "always" if name == "tell" else "never"
            tool = {"name": name, "description": "Tells.", "parameters": parameters, "http": http, "approval": approval, "attempts": 1}
            await platform.post("/v1/tools", 201, **tool)
        # when a person approves other arguments than the model's, with a note
        body = {"model": "echo", "tools": ["tell", "fail"], "subject": "eve"}
        session = await platform.post("/v1/sessions", 201, **body, input=f'/tell {{"to": "{ASKED}"}}')
        [waiting] = (await platform.get(f"/v1/approvals?position={session['position']}"))["approvals"]
        assert ASKED in waiting["arguments"]
        path = f"/v1/sessions/{session['id']}/calls/{waiting['id']}"
        judged = {"arguments_digest": waiting["arguments_digest"], "arguments": {"to": CHANGED}, "note": NOTED}
        await platform.post(f"{path}/approve", 200, **judged)
        told = await _until_idle(platform, session["id"])
        platform.soma("seal", "rotate")  # under way, and nobody notices
        # then the tool was asked with these, and the model was shown how its answer begins
        assert CHANGED.encode() in server.requests[0].body
        assert told["messages"][-1]["content"].startswith(f"echo: {LONG}")
        call = await platform.get(f"{path}?position={told['position']}")
        assert (call["approval"]["note"], CHANGED in call["arguments"], call["result_bytes"]) == (NOTED, True, len(whole))
        assert (await platform.client.get(f"{path}/result")).text == whole
        # when another call is denied with a note, one has arguments that do not fit, and one fails
        said = f"/v1/sessions/{session['id']}/messages"
        waiting = (await platform.post(said, 200, input=f'/tell {{"to": "{ASKED}"}}'))["messages"][-1]["tool_calls"][0]
        denied = await platform.post(f"/v1/sessions/{session['id']}/calls/{waiting['id']}/deny", 200, note=NOTED)
        assert denied["messages"][-1]["content"] == f"echo: A person denied this call. {NOTED}"
        wrong = await platform.post(said, 200, input=f'/fail {{"to": {{"{ASKED}": 1}}}}')
        assert ASKED in wrong["messages"][-1]["content"]
        failed = await platform.post(said, 200, input='/fail {"to": "x"}')
        assert FAILED in failed["messages"][-1]["content"]
    # then none of it is to be found, also in what is kept of the tool's answer
    assert platform.places_of(ASKED, CHANGED, NOTED, LONG, FAILED) == []
    # when the subject is erased
    platform.soma("erase", "--subject", "eve", "--yes")
    await _until_sealed(platform, session["id"])
    # then its ledger is there, without a word
    call = await platform.get(path)
    assert call["status"] == "done"
    assert [set(each) for each in (call["arguments"], call["result"], call["approval"]["note"])] == [{"sealed"}] * 3
    assert (await platform.client.get(f"{path}/result")).status_code == 410
    assert (await platform.get("/v1/calls?tool=tell"))["calls"]


async def test_what_is_said_to_a_subject_while_it_is_erased_is_kept_nowhere_and_is_billed(platform: Platform, model: ScriptedModel) -> None:
    on = asyncio.Event()

    async def find(request: Request, writer: asyncio.StreamWriter) -> None:
        await on.wait()
        await says(FOUND + "x" * (80 << 10), content_type="text/plain")(request, writer)

    async with serving({"/find": find}) as server:
        # given two turns of one subject: a model has begun to answer, and a tool is about to
        http = {"method": "POST", "url": server.url("/find")}
        tool = {"name": "find", "description": "Finds.", "parameters": {"type": "object"}, "http": http, "cost_micros": 7}
        await platform.post("/v1/tools", 201, **tool)
        wish = ("find", json.dumps({"for": WANTED}))
        model.scripts |= {ASKED: [Says(BEGUN, (wish,), on)], SAID: [Says(calls=(wish,))]}
        body, later = {"model": "scripted", "tools": ["find"], "subject": "ivy"}, {"Prefer": "respond-async"}
        started = [await platform.client.post("/v1/sessions", json=body | {"input": text}, headers=later) for text in (ASKED, SAID)]
        asked, acting = [each.json()["id"] for each in started]
        async with asyncio.timeout(30):
            await server.asked.wait()
            while not _written(platform, asked):
                await asyncio.sleep(0.1)
        # when the subject is erased, and both end once nobody has its key at hand any more
        platform.soma("erase", "--subject", "ivy", "--yes")
        await asyncio.sleep(seal.KEPT_SECONDS + 1)
        on.set()
        ended = [await _until_idle(platform, id) for id in (asked, acting)]
    # then their turns say why they ended, and what was used is on record, of the tool as well
    assert [each["error"]["code"] for each in ended] == ["erased", "erased"]
    assert [each["usage"] for each in ended] == [{"input_tokens": 5, "output_tokens": 2, "cost_micros": cost} for cost in (0, 7)]
    # and nobody reads a word of it
    [call] = (await platform.get(f"/v1/sessions/{acting}/calls"))["calls"]
    shown = await platform.get(f"/v1/sessions/{acting}/calls/{call['id']}")
    assert (call["outcome"], shown["result"]) == ("ok", ERASED.decode())
    assert platform.places_of(ASKED, SAID, BEGUN, WANTED, FOUND) == []
    unsealed = "".join(platform.soma("show", id, "--unseal", "--json") for id in (asked, acting))
    assert not [text for text in (ASKED, SAID, BEGUN, WANTED, FOUND) if text in unsealed]
    # and the record is whole
    platform.soma("verify", "--chain")
    platform.soma("verify")


def _written(platform: Platform, session_id: str) -> bool:
    """Whether a piece of a reply went out to those who follow the session."""
    log = Log(kafka.confluent(platform.settings))
    partition = partition_of(session_id)
    pieces = log.read(OUTPUT, partition, *log.bounds(OUTPUT, partition))
    return any(piece.key == session_id.encode() for piece in pieces)


async def test_a_fork_and_a_client_of_openai_read_what_is_sealed_until_it_is_erased(platform: Platform) -> None:
    # given a conversation, and a fork of it that is about another subject
    origin = await platform.post("/v1/sessions", 201, model="echo", input=SAID, subject="dan")
    fork = await platform.post(f"/v1/sessions/{origin['id']}/fork", 201, input=ASKED, subject="fay")
    assert [each["content"] for each in fork["messages"]] == [SAID, f"echo: {SAID}", ASKED, f"echo: {ASKED}"]
    # and a client that streams
    words = [{"role": "user", "content": TOLD}, {"role": "assistant", "content": NOTED}, {"role": "user", "content": LONG}]
    stream = await platform.client.post("/v1/chat/completions", json={"model": "echo", "messages": words, "stream": True, "user": "gil"})
    chunks = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == f"echo: {LONG}"
    assert platform.places_of(SAID, TOLD, NOTED, LONG) == []
    # when the origin's subject is erased
    platform.soma("erase", "--subject", "dan", "--yes")
    await _until_sealed(platform, origin["id"])
    # then the fork shows what is its own, and cannot go on without what it began with
    shown = await platform.get(f"/v1/sessions/{fork['id']}")
    assert [isinstance(each["content"], str) for each in shown["messages"]] == [False, False, True, True]
    ended = await platform.post(f"/v1/sessions/{fork['id']}/messages", 200, input="and now?")
    assert ended["error"]["code"] == "rejected"


async def _until_sealed(platform: Platform, session_id: str) -> None:
    async with asyncio.timeout(FORGETS_SECONDS):
        while any(isinstance(each["content"], str) for each in (await platform.get(f"/v1/sessions/{session_id}"))["messages"]):
            await asyncio.sleep(0.2)


async def _until_idle(platform: Platform, session_id: str) -> Any:
    async with asyncio.timeout(30):
        while (session := await platform.get(f"/v1/sessions/{session_id}"))["status"] != "idle":
            await asyncio.sleep(0.1)
    return session


async def _recorded(platform: Platform, action: str) -> Any:
    async with asyncio.timeout(30):
        while not (found := (await platform.get(f"/v1/audit?action={action}"))["decisions"]):
            await asyncio.sleep(0.2)
    return found[0]


async def test_keys_that_are_away_for_a_while_hold_up_text_and_nothing_is_taken_for_erased(platform: Platform) -> None:
    session = await platform.post("/v1/sessions", 201, model="echo", input=SAID, subject="hal")
    path, master = f"/v1/sessions/{session['id']}", platform.settings.soma_data_dir / seal_file.FILE
    # when the master key is gone
    away = master.rename(master.with_suffix(".away"))
    await _until_answered(platform, path, 503)
    # then nothing is written or shown that cannot be sealed or opened
    for answer in (
        await platform.client.get(path),
        await platform.client.get(f"{path}/events", headers={"Accept": "application/json"}),
        await platform.client.post(f"{path}/messages", json={"input": ASKED}),
        await platform.client.post("/v1/sessions", json={"model": "echo", "input": ASKED}),
    ):
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "seal_down", "1")
    # and a stream ends before what it cannot show, for its client to come back
    stream = (await platform.client.get(f"{path}/events")).text
    assert ("event: SessionStarted" in stream, "event: MessagePosted" in stream) == (True, False)
    # when it is back
    away.rename(master)
    await _until_answered(platform, path, 200)
    # then so is the text
    assert (await platform.get(path))["messages"][0]["content"] == SAID
    on = await platform.post(f"{path}/messages", 200, input=ASKED)
    assert on["messages"][-1]["content"] == f"echo: {ASKED}"


async def _until_answered(platform: Platform, path: str, status: int) -> None:
    async with asyncio.timeout(FORGETS_SECONDS):
        while (await platform.client.get(path)).status_code != status:
            await asyncio.sleep(0.2)
