"""Nothing secret is where it must not be: a run of the platform with marked secrets, and then all topics, tables and logs are searched."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.settings import Settings
from tests.faults.cluster import Process, environment, until
from tests.gateway.platform import healthy
from tests.gateway.search import tables, topics
from tests.gateway.signing import SECRET, bearer, hs256, saying
from tests.streams.tools.server import Journal, says, serving

PROMPT, INSTRUCTIONS, TOOL_SECRET = "canary-prompt-5b1e", "canary-instructions-77ac", "canary-toolsecret-90d3"
PEPPER = "canary-pepper-31f0, long enough to be one"
ROLES = ("worker", "projector", "executor", "gateway")
SCOPE = "sessions:write sessions:read tools:admin tools:read keys:admin audit:read models:read"
TOOL: dict[str, Any] = {
    "name": "payer",
    "description": "Pays.",
    "parameters": {"type": "object"},
    "http": {"method": "POST", "headers": {"X-Secret": "${secret:PAY}"}},
    "attempts": 1,
}


@pytest.fixture
def canaries(own_settings: Settings) -> Settings:
    own = {"gateway_require_auth": True, "gateway_jwt_secret": SECRET, "soma_keys_pepper": PEPPER, "soma_log_level": "DEBUG"}
    reached = {"soma_tool_private_hosts": ("127.0.0.1",), "gateway_wait_seconds": 30.0}
    return own_settings.model_copy(update=own | reached)


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    """The tool's server."""
    async with serving({"/pay": says("paid")}) as journal:
        monkeypatch.setitem(TOOL["http"], "url", journal.url("/pay"))
        yield journal


async def test_no_secret_and_no_text_is_in_a_log_and_none_but_text_is_on_record(canaries: Settings, shop: Journal, tmp_path: Path) -> None:
    token = hs256(saying(scope=SCOPE), SECRET.encode())
    logs = {role: tmp_path / f"{role}.log" for role in ROLES}
    processes = [Process(role, environment(canaries) | {"SOMA_SECRET_PAY": TOOL_SECRET}, log) for role, log in logs.items()]
    # given the platform that users run
    for process in processes:
        await process.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{canaries.gateway_port}", timeout=40) as client:
        await until(lambda: "of soma.audit.commands" in logs["worker"].read_text(), "the worker owns the audit")
        await healthy(client)
        secrets = await _use(client, token)
        await _recorded(client, token)
    for process in reversed(processes):
        await process.stop()
    # then text is on record in the topics and tables of sessions alone
    places = dict(topics(canaries)) | dict(tables(canaries)) | {f"log {role}": log.read_bytes() for role, log in logs.items()}
    for text in (PROMPT, INSTRUCTIONS):
        found = {place for place in places if text.encode() in places[place]}
        assert found, "the search finds what is there"
        assert found <= {"topic soma.session.commands", "topic soma.session.events", "topic soma.session.output", "table events"}
    # and no secret is anywhere, though the tool was given its own
    assert [request.headers["x-secret"] for request in shop.requests] == [TOOL_SECRET]
    for name, secret in {"token": token, "signature": token.rpartition(".")[2], "tool's": TOOL_SECRET, "pepper": PEPPER, **secrets}.items():
        for form in (secret.encode(), base64.b64encode(secret.encode())):
            assert [place for place in places if form in places[place]] == [], f"the {name} secret"


async def _use(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    """Sign in by both means, talk, let a tool be called, and do everything wrong that a caller can. The key's secret."""
    signed = bearer(token)
    issued = await client.post("/v1/keys", json={"name": "canary", "scopes": SCOPE.split()}, headers=signed)
    assert issued.status_code == 201, issued.text
    key = issued.json()["secret"]
    assert (await client.post("/v1/tools", json=TOOL, headers=signed)).status_code in (200, 201)
    body = {"model": "echo", "input": PROMPT, "instructions": INSTRUCTIONS, "tools": ["payer"]}
    started = await client.post("/v1/sessions", json=body, headers=bearer(key))
    assert started.status_code == 201, started.text
    wish = {"input": f'/payer {{"for": "{PROMPT}"}}'}
    called = await client.post(f"/v1/sessions/{started.json()['id']}/messages", json=wish, headers=signed)
    assert (called.status_code, called.json()["messages"][-1]["content"]) == (200, "echo: paid"), called.text
    for path in (f"/v1/keys/{key}", f"/v1/sessions?metadata={PROMPT}", f"/v1/tools/{key}?token={token}", f"/v1/agents/{key}"):
        await client.get(path, headers=signed)
        await client.get(path, headers=bearer(f"{key}x") | {"X-Request-Id": f"{token}", "traceparent": key})
    await client.post("/v1/sessions", content=f'{{"model": "{PROMPT}'.encode(), headers=signed | {"Content-Type": "application/json"})
    return {"key's": key}


async def _recorded(client: httpx.AsyncClient, token: str) -> None:
    """Wait until what was denied is on record, so that there is something to search."""
    async with asyncio.timeout(60):
        while True:
            page = (await client.get("/v1/audit", params={"outcome": "denied"}, headers=bearer(token))).json()
            if page["decisions"]:
                return
            await asyncio.sleep(0.2)
