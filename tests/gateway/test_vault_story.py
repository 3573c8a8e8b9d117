"""Vault, which keeps the keys of tokens and of sealed text, away from a whole platform: dead, silent, or somebody else in its place."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from ops.settings import Settings
from ops.vault import Login
from tests.faults.cluster import Process
from tests.gateway.bao import Bao, Lasting, running
from tests.gateway.closed import HARDLY_LIMITED, client, executor, gateway, worker
from tests.gateway.keys import PEPPER
from tests.gateway.platform import Gateway, until
from tests.gateway.signing import HMAC, SECRET, bearer, saying, token
from tests.scripted.model import Says, ScriptedModel, scripted
from tests.streams.tools.server import Journal, Request, says, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
__all__ = ["client", "executor", "gateway", "worker"]
PAGES = Path(__file__).parents[2] / "docs"
ADA = bearer(token(saying(iss=None, aud=None), HMAC, kid="current"))
STRANGE = bearer(token(saying(iss=None, aud=None), HMAC, kid="next"))
"""Its key is not among those that are known, so Vault is asked for it."""
PARTS = ("sign_in", "seal")
Trouble = Callable[[Bao], Any]


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """As the pages say: the keys of tokens in KV, those of text in a transit engine of their own."""
    [sealing, _] = re.findall(r"```hcl\n(.*?)```", (PAGES / "erasure.md").read_text(), re.DOTALL)
    with running(tmp_path_factory.mktemp("bao"), Lasting) as bao:
        bao.client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        bao.client.sys.enable_secrets_engine("transit", path="sealing")
        bao.client.sys.enable_auth_method("approle")
        bao.client.secrets.kv.v2.create_or_update_secret("soma/jwt", {"current": SECRET})
        bao.client.sys.create_or_update_policy("soma", sealing + 'path "secret/data/soma/jwt" { capabilities = ["read"] }')
        bao.client.auth.approle.create_or_update_approle("soma", token_policies=["soma"], token_ttl="1h")
        yield bao


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted() as model:
        yield model


@pytest.fixture(scope="module")
def closed(module_settings: Settings, bao: Bao, model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a platform that has all its keys from Vault, by an AppRole."""
    role = bao.client.auth.approle.read_role_id("soma")["data"]["role_id"]
    secret = bao.client.auth.approle.generate_secret_id("soma")["data"]["secret_id"]
    vault = {"vault_addr": bao.url, "vault_role_id": role, "vault_secret_id": secret, "gateway_jwt_vault_kv": "secret/soma/jwt"}
    sealing = {"soma_seal": "vault", "soma_seal_transit": "sealing", "soma_tool_private_hosts": ("127.0.0.1",)}
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text(yaml.safe_dump([{"name": "scripted", "base_url": model.url, "timeout_seconds": 600}]))
    own = {
        "gateway_require_auth": True,
        "soma_keys_pepper": PEPPER,
        "soma_command_key": ("5a" * 32,),
        "soma_models_file": models,
        "gateway_wait_seconds": 30.0,
    }
    return module_settings.model_copy(update=vault | sealing | own | HARDLY_LIMITED)


@dataclass
class Held:
    """A tool that answers once it is let go."""

    journal: Journal
    go: asyncio.Event


@pytest_asyncio.fixture(loop_scope="module")
async def tool(client: httpx.AsyncClient, executor: Process) -> AsyncIterator[Held]:
    go = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await says("found-21c4", content_type="text/plain")(request, writer)

    async with serving({"/find": answer}) as server:
        http = {"method": "POST", "url": server.url("/find")}
        tool = {"name": "find", "description": "Finds.", "parameters": {"type": "object"}, "http": http, "timeout_seconds": 300}
        assert (await client.post("/v1/tools", json=tool, headers=ADA)).is_success
        yield Held(server, go)


@asynccontextmanager
async def dead(bao: Bao) -> AsyncIterator[None]:
    bao.kill()
    yield
    await asyncio.to_thread(bao.start)


@asynccontextmanager
async def silent(bao: Bao) -> AsyncIterator[None]:
    bao.freeze()
    yield
    bao.thaw()


def replaced(answer: str, status: str = "200 OK") -> Trouble:
    """Somebody else answers in its place, and so."""

    @asynccontextmanager
    async def trouble(bao: Bao) -> AsyncIterator[None]:
        bao.kill()
        server = await asyncio.start_server(lambda reader, writer: _always(reader, writer, answer, status), "127.0.0.1", bao.port)
        async with server:
            yield
        await asyncio.to_thread(bao.start)

    return trouble


async def _always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: str, status: str) -> None:
    await reader.readuntil(b"\r\n\r\n")
    length = f"content-type: application/json\r\ncontent-length: {len(answer)}\r\nconnection: close"
    writer.write(f"HTTP/1.1 {status}\r\n{length}\r\n\r\n{answer}".encode())
    await writer.drain()
    writer.close()


TROUBLES = {
    "dead": dead,
    "silent": silent,
    "a list": replaced("[1]"),
    "a number for a key": replaced('{"data": {"hmac": 7, "keys": 7, "latest_version": "x"}, "auth": 7}'),
    "nothing is there": replaced('{"errors": ["no handler for route"]}', "404 Not Found"),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_while_vault_is_away_nothing_new_is_said_what_runs_waits_and_when_it_is_back_all_goes_on(
    trouble: Trouble, request: pytest.FixtureRequest, bao: Bao, client: httpx.AsyncClient, model: ScriptedModel, tool: Held
) -> None:
    # given a turn whose model is about to answer, another whose tool is, and a session that rests
    name, answering = request.node.name, asyncio.Event()
    model.scripts |= {
        f"ask {name}": [Says("well, ", held=answering)],
        f"find {name}": [Says(calls=(("find", "{}"),)), Says("it is found")],
        f"rest {name}": [Says("good night")],
    }
    asked, found = [await _start(client, f"{what} {name}", LATER) for what in ("ask", "find")]
    rests = await _start(client, f"rest {name}", {})
    await _until(lambda: _said(f"ask {name}" in model.asked and tool.journal.requests))
    # when Vault is away, and what was known of its keys is forgotten
    async with trouble(bao):
        await _until(lambda: _forgotten(client, [asked, found, rests]))
        # then nothing is said, and nobody is told otherwise
        refused = [
            await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers=ADA),
            await client.post(f"{rests}/messages", json={"input": "hello"}, headers=ADA),
            await client.get(rests, headers=ADA),
        ]
        assert [(each.status_code, each.json()["code"]) for each in refused] == [(503, "seal_down")] * 3
        assert "nothing was sent" in refused[0].json()["title"]
        # and whom the gateway knew it knows, whom it did not it cannot, and it says which parts are away
        assert (await client.get("/v1/tools", headers=ADA)).status_code == 200
        await _until(lambda: _answers(client, "/v1/tools", 503, STRANGE))
        assert "Vault" in await until(client, "seal", "down", ADA) + await until(client, "sign_in", "degraded", ADA)
        # and what has no text goes on
        cancelled = await client.post(f"{rests}/cancel", headers=ADA)
        assert (cancelled.status_code, "position" in cancelled.json()) == (202, True)
        # when model and tool answer, then their turns wait
        answering.set()
        tool.go.set()
        assert {asked, found} <= await _under_way(client)
    # when it is back, then the turns end as if nothing had been
    assert await _answer(client, asked) == "well, "
    assert await _answer(client, found) == "it is found"
    [call] = (await client.get(f"{found}/calls", headers=ADA)).json()["calls"]
    assert (await client.get(f"{found}/calls/{call['id']}", headers=ADA)).json()["result"] == "found-21c4"
    # and everything else does as well
    await asyncio.gather(*(until(client, part, "ok") for part in PARTS))
    assert (await client.get(rests, headers=ADA)).json()["outcome"] == "cancelled"
    assert (await client.get("/v1/tools", headers=STRANGE)).status_code == 401
    assert (await client.post("/v1/sessions", json={"model": "echo", "input": "hello"}, headers=ADA)).status_code == 201


async def test_whoever_waits_when_a_gateway_loses_its_way_to_vault_is_not_told_that_nothing_was_sent(
    gateway: Gateway, closed: Settings, client: httpx.AsyncClient, model: ScriptedModel, tool: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two callers who wait for their answers, one of them by OpenAI's door
    answering = asyncio.Event()
    model.scripts |= {word: [Says("well, ", held=answering)] for word in ("one", "two")}
    session = {"model": "scripted", "input": "one"}
    completion = {"model": "scripted", "messages": [{"role": "user", "content": "two"}]}
    answers = asyncio.gather(
        client.post("/v1/sessions", json=session, headers=ADA), client.post("/v1/chat/completions", json=completion, headers=ADA)
    )
    await _until(lambda: _said({"one", "two"} <= model.asked.keys()))
    # when the worker has the keys, and the gateway cannot get them any more
    seals, nowhere = gateway.app.state.parts.reader.seals, closed.model_copy(update={"vault_addr": "http://127.0.0.1:1"})
    monkeypatch.setattr(seals._keys, "_login", Login(nowhere))
    seals._at_hand.clear()
    answering.set()
    # then both are told that it is on record, and where
    one, two = await answers
    assert (one.status_code, two.status_code, two.json()["error"]["code"]) == (202, 504, "unfinished")
    # when it has found its way again
    monkeypatch.undo()
    # then the turn is there
    await _until(lambda: _answers(client, one.headers["Location"], 200))
    assert await _answer(client, one.headers["Location"]) == "well, "


LATER = {"Prefer": "respond-async"}


async def _start(client: httpx.AsyncClient, input: str, how: dict[str, str]) -> str:
    """A session's address."""
    body = {"model": "scripted", "tools": ["find"], "input": input, "subject": input}
    started = await client.post("/v1/sessions", json=body, headers=ADA | how)
    assert started.status_code in (201, 202), started.text
    return f"/v1/sessions/{started.json()['id']}"


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.2)


async def _forgotten(client: httpx.AsyncClient, paths: list[str]) -> bool:
    return all([await _answers(client, path, 503) for path in paths])


async def _said(what: object) -> bool:
    return bool(what)


async def _answers(client: httpx.AsyncClient, path: str, status: int, who: dict[str, str] = ADA) -> bool:
    return (await client.get(path, headers=who)).status_code == status


async def _under_way(client: httpx.AsyncClient) -> set[str]:
    listed = (await client.get("/v1/sessions", params={"limit": 200}, headers=ADA)).json()["sessions"]
    return {f"/v1/sessions/{each['id']}" for each in listed if each["status"] in ("thinking", "acting")}


async def _answer(client: httpx.AsyncClient, path: str) -> Any:
    """What was said last, once the turn is over."""
    async with asyncio.timeout(90):
        while (session := (await client.get(path, headers=ADA)).json()).get("status") in (503, "thinking", "acting"):
            await asyncio.sleep(0.2)
    assert session["error"] is None, session
    return session["messages"][-1]["content"]
