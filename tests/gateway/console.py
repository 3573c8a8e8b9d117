"""A console where everybody has to sign in, one that stands open, and a person with a browser of few words."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from gateway.v1.access_shapes import KeyWithSecret
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.code_flow import CodeFlow, signing_people_in
from tests.gateway.keys import issue
from tests.gateway.platform import Gateway
from tests.gateway.signing import AUDIENCE

SCOPES = [
    *("agents:admin", "agents:read", "budgets:admin", "budgets:read", "calls:approve", "keys:admin", "models:read", "sessions:read"),
    *("sessions:write", "tools:admin", "tools:read", "usage:read", "policies:admin", "policies:read", "audit:read"),
]
PAGES = (
    *("", "/sessions", "/approvals", "/calls", "/tools", "/agents", "/keys", "/budget"),
    *("/usage", "/policies", "/policies/shipped", "/audit"),
)
ADDER: dict[str, Any] = {
    "name": "adder",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    "http": {"method": "GET", "url": "https://example.org/add/{x}"},
    "allowed_hosts": ["example.org"],
    "approval": "always",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[CodeFlow]:
    async with signing_people_in() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(gateway: Gateway, worker: Process, peppered: Settings, provider: CodeFlow) -> AsyncIterator[Gateway]:
    """A gateway of the platform where everybody has to sign in, with a key or at the provider."""
    told = {"gateway_jwt_issuer": provider.issuer, "gateway_jwt_audience": (AUDIENCE,), "gateway_oidc_client_id": "console"}
    settings = peppered.model_copy(update={"gateway_port": free_port(), "gateway_require_auth": True, **told})
    async with Gateway(settings) as guarded:
        await guarded.until_healthy()
        yield guarded


class Person:
    """Follows no redirect by itself, and sends forms as a browser does: with the page's hidden fields and its origin."""

    def __init__(self, gateway: Gateway) -> None:
        self.origin = str(gateway.client.base_url).rstrip("/")
        self.client = httpx.AsyncClient(base_url=self.origin, timeout=20)

    async def look(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/console{path}", headers=headers)

    async def send(self, page: str, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> httpx.Response:
        """The form of `page`, sent to `path`; `fields` take the place of its hidden ones."""
        hidden = dict(re.findall(r'name="(csrf|once)" value="([^"]*)"', (await self.look(page)).text))
        shown = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"} if headers is None else headers
        return await self.client.post(f"/console{path}", data=hidden | fields, headers=shown)

    async def sign_in(self, credential: str, **more: str) -> httpx.Response:
        return await self.send("/sign-in", "/sign-in", {"credential": credential, **more})


async def signed_in(guarded: Gateway, api: httpx.AsyncClient, scopes: list[str] | None = None) -> tuple[Person, KeyWithSecret]:
    """A person with a key of their own."""
    key = await issue(api, "a person's", scopes=SCOPES if scopes is None else scopes)
    person = Person(guarded)
    assert (await person.sign_in(key.secret or "")).status_code == 303
    return person, key


async def waiting_call(api: httpx.AsyncClient, argument: str = "1") -> tuple[str, str]:
    """The ids of a session and of its call that a person has to decide about."""
    if (await api.get("/v1/tools/adder")).status_code == 404:
        assert (await api.post("/v1/tools", json=ADDER)).status_code == 201
    asked = await api.post("/v1/tool_executor", json={"tool": "adder", "arguments": {"x": argument}})
    assert asked.status_code == 202, asked.text
    found = (await api.get("/v1/approvals", params={"position": asked.json()["position"]})).json()["approvals"]
    return next((call["session_id"], call["id"]) for call in found if call["arguments"] and argument in call["arguments"])
