"""The gate on a whole platform: two pairs of eyes, and sessions that go on while those are away whom the gate asks."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.engine import engine
from gateway.policy import Policy
from ops import rego
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.closed import ASKING, TOOL, client, executor, gateway, provider, signed_in, worker
from tests.gateway.closed import closed as two_handed
from tests.gateway.platform import Gateway
from tests.gateway.provider import Provider
from tests.opa import Opa

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["client", "executor", "gateway", "provider", "two_handed", "worker"]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ones, under which nobody of acme approves what they asked for."""
    directory, shipped = tmp_path_factory.mktemp("policies"), rego.load(None)
    for name, text in shipped.modules.items():
        (directory / name).write_text(text)
    tenants = shipped.data["soma"]["tenants"] | {"acme": {"four_eyes": True}}
    (directory / "data.json").write_text(json.dumps({"soma": {**shipped.data["soma"], "tenants": tenants}}))
    return directory


@pytest.fixture(scope="module")
def closed(two_handed: Settings, policies: Path) -> Settings:
    return two_handed.model_copy(update={"soma_policy_dir": policies, "policy_seconds": 2.0})


async def until(client: httpx.AsyncClient, path: str, who: dict[str, str], status: str) -> None:
    """Once what is there has this status."""
    async with asyncio.timeout(60):
        while (await client.get(path, headers=who)).json().get("status") != status:
            await asyncio.sleep(0.1)


async def test_a_call_is_approved_by_somebody_else_than_who_asked_for_it_and_goes_on(
    client: httpx.AsyncClient, provider: Provider, executor: Process
) -> None:
    # given a message of ada's that leads to a call which somebody has to approve
    ada, bob = signed_in(provider), signed_in(provider, sub="bob")
    assert (await client.post("/v1/tools", json=TOOL, headers=ada)).is_success
    session = (await client.post("/v1/sessions", json={"model": "echo", "tools": ["payer"], "input": ASKING}, headers=ada)).json()
    path = f"/v1/sessions/{session['id']}"
    [call] = (await client.get(f"{path}/calls", params={"position": session["position"]}, headers=ada)).json()["calls"]
    approval, approve = {"arguments_digest": call["arguments_digest"]}, f"{path}/calls/{call['id']}/approve"
    # when ada approves it herself
    refused = await client.post(approve, json=approval, headers=ada)
    # then she may not, the audit says why, and the call waits
    assert (refused.status_code, refused.json()["decision"]["rule"]) == (403, "approver")
    explained = await client.get(f"/v1/audit/{refused.json()['decision']['id']}", headers=bob)
    assert (explained.json()["actor"], explained.json()["reasons"]) == ("ada", [refused.json()["detail"]])
    await until(client, path, ada, "waiting")
    # when somebody else does
    approved = await client.post(approve, json=approval, headers=bob)
    # then it goes on, and the record has both names
    assert approved.status_code in (200, 202), approved.text
    await until(client, path, ada, "idle")
    said = (await client.get(path, headers=ada)).json()["messages"]
    assert [message["content"] for message in said][-1] == "echo: 42"
    events = (await client.get(f"{path}/events", headers=ada | {"Accept": "application/json"})).json()["events"]
    acted = {event["type"]: event["actor"] for event in events}
    assert (acted["MessagePosted"], acted["ToolCallApproved"]) == ("ada", "bob")


async def test_while_the_engine_is_away_slow_or_talks_nonsense_nobody_new_is_let_in_and_what_runs_goes_on(
    gateway: Gateway, client: httpx.AsyncClient, provider: Provider, executor: Process, policies: Path, tmp_path: Path
) -> None:
    opa, ada, bob = Opa(policies, tmp_path / "opa.log"), signed_in(provider), signed_in(provider, sub="bob")
    parts = gateway.app.state.parts
    opa.start()
    async with engine(Settings(opa_url=opa.url, policy_seconds=2)) as server:
        gateway.app.state.parts = dataclasses.replace(parts, policy=Policy(server, fail_open=False, seconds=2))
        try:
            for trouble in (None, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n[1]\n", b""):
                # given an approved call of a turn that is under way
                session = await _waiting(client, ada)
                assert (await client.post(session["approve"], json=session["approval"], headers=bob | LATER)).is_success
                # when the engine is away, or somebody answers in its place, or nobody does
                opa.stop()
                async with _instead(opa.url, trouble):
                    refused = [
                        await client.post("/v1/sessions", json={"model": "echo"}, headers=ada),
                        await client.get("/v1/tools", headers=ada),
                    ]
                    # then nobody is let in, by an answer that comes in bounded time
                    assert [(each.status_code, each.json()["code"]) for each in refused] == [(503, "policy_down")] * 2
                    assert (await client.get("/health", headers=ada)).status_code == 200
                # when it is back, the next request notices, and the turn went on meanwhile
                opa.start()
                await until(client, session["path"], ada, "idle")
                assert (await client.post("/v1/sessions", json={"model": "echo"}, headers=ada)).status_code == 201
        finally:
            gateway.app.state.parts = parts
            opa.stop()


async def test_while_the_provider_is_away_known_keys_are_believed_and_what_runs_goes_on(
    client: httpx.AsyncClient, provider: Provider, executor: Process
) -> None:
    ada = signed_in(provider)
    for away in ("down", "slow", "nonsense"):
        # given a session, and a provider that is away
        session = await _waiting(client, ada)
        if away == "down":
            await provider.down()
        provider.slow = away == "slow"
        provider.answers = {"/keys": (200, b'{"keys": 7}')} if away == "nonsense" else {}
        # when, then
        assert (await client.get(session["path"], headers=ada)).json()["status"] == "waiting"
        assert (await client.post(session["approve"], json=session["approval"], headers=signed_in(provider, sub="bob"))).is_success
        await until(client, session["path"], ada, "idle")
        # when it is back
        provider.slow, provider.answers = False, {}
        if away == "down":
            await provider.up()
    assert (await client.get("/v1/tools", headers=ada)).status_code == 200


LATER = {"Prefer": "respond-async"}


async def _waiting(client: httpx.AsyncClient, who: dict[str, str]) -> dict[str, Any]:
    """A session in which a call waits: its path, and how to approve the call."""
    assert (await client.post("/v1/tools", json=TOOL, headers=who)).is_success
    session = (await client.post("/v1/sessions", json={"model": "echo", "tools": ["payer"], "input": ASKING}, headers=who)).json()
    path = f"/v1/sessions/{session['id']}"
    [call] = (await client.get(f"{path}/calls", params={"position": session["position"]}, headers=who)).json()["calls"]
    return {"path": path, "approve": f"{path}/calls/{call['id']}/approve", "approval": {"arguments_digest": call["arguments_digest"]}}


@asynccontextmanager
async def _instead(url: str, answer: bytes | None) -> AsyncIterator[None]:
    """At the engine's address: nobody, or somebody who answers so; with an empty answer, who takes longer than anybody waits."""
    if answer is None:
        yield
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await (writer.drain() if answer else reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", urlsplit(url).port)
    yield
    server.close()
