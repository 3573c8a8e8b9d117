"""A platform at whose gateway everybody signs in, and what one tenant has there: fixtures of the tests about the gate as a whole."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute

from ops.settings import Settings
from tests.faults.cluster import Process, environment
from tests.gateway.keys import PEPPER
from tests.gateway.platform import Gateway, deciding, serving
from tests.gateway.provider import Provider
from tests.gateway.signing import AUDIENCE, RSA, SECRET, bearer, saying, token

EVERYBODY = {
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/v1/health"),
    ("GET", "/v1/health/live"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/problems/{code}"),
}
"""All that a stranger may see."""
HARDLY_LIMITED = {"gateway_failed_sign_ins_per_minute": 10_000_000}
"""All that is tried here comes from one address, within a minute."""
TOOL = {
    "name": "payer",
    "description": "Pays.",
    "parameters": {"type": "object"},
    "python": {"entry_point": "calculator"},
    "approval": "always",
}
ASKING = '/payer {"expression": "6*7"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with Provider(RSA) as provider:
        yield provider


@pytest.fixture(scope="module")
def closed(module_settings: Settings, provider: Provider) -> Settings:
    """Of a gateway at which callers sign in: by keys, by tokens of a provider or by those of the command line. Commands are signed."""
    tokens = {"gateway_jwt_secret": SECRET, "gateway_jwt_issuer": provider.issuer, "gateway_jwt_audience": (AUDIENCE,)}
    own = {"gateway_require_auth": True, "gateway_jwt_leeway_seconds": 0, "soma_keys_pepper": PEPPER, "soma_command_key": ("5a" * 32,)}
    return module_settings.model_copy(update=tokens | own | HARDLY_LIMITED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(closed: Settings) -> AsyncIterator[Gateway]:
    async with serving(closed) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> httpx.AsyncClient:
    return gateway.client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(closed: Settings, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with deciding(closed, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        yield worker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor(closed: Settings, worker: Process, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    executor = Process("executor", environment(closed), tmp_path_factory.mktemp("executor") / "executor.log")
    await executor.start()
    yield executor
    await executor.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theirs(gateway: Gateway, provider: Provider, worker: Process) -> dict[str, str]:
    """What acme has, by the names of the paths' parameters: a key, an agent, a tool, and a session in which a call of it waits."""
    client, ada = gateway.client, signed_in(provider)
    for made in (
        await client.post("/v1/tools", json=TOOL, headers=ada),
        await client.put("/v1/agents/payer", json={"model": "echo", "description": "Pays."}, headers=ada),
        issued := await client.post("/v1/keys", json={"name": "theirs", "scopes": ["sessions:read"]}, headers=ada),
        said := await client.post("/v1/responses", json={"model": "echo", "input": "hello"}, headers=ada),
        denied := await client.post("/v1/sessions", json={"model": "echo"}, headers=signed_in(provider, scope="models:read")),
    ):
        assert made.is_success or made is denied, made.text
    wanted = {"model": "echo", "tools": ["payer"], "input": ASKING, "metadata": {"team": "blue"}}
    session = (await client.post("/v1/sessions", json=wanted, headers=ada | {"Idempotency-Key": "theirs"})).json()
    assert session["status"] == "waiting", session
    calls = await client.get(f"/v1/sessions/{session['id']}/calls", params={"position": session["position"]}, headers=ada)
    return {
        "session_id": session["id"],
        "call": calls.json()["calls"][0]["id"],
        "name": "payer",
        "id": issued.json()["id"],
        "response_id": said.json()["id"],
        "decision": denied.json()["decision"]["id"],
        "policy": "shipped",
    }


def signed_in(provider: Provider, **claims: Any) -> dict[str, str]:
    """The header of a caller, ada of the tenant acme unless claims say otherwise."""
    return bearer(token(saying(iss=provider.issuer, **claims)))


def routes(gateway: Gateway) -> Iterator[tuple[str, str]]:
    """Every method and address that the app serves, its own description included."""
    description = gateway.app.openapi()
    yield from ((method.upper(), path) for path, item in description["paths"].items() for method in item)
    for route in gateway.app.routes:
        if not isinstance(route, APIRoute) and (path := getattr(route, "path", None)):
            yield from ((method, path) for method in getattr(route, "methods", None) or {"GET"} if method != "HEAD")


def operations(gateway: Gateway) -> Iterator[tuple[str, str, Any]]:
    """Method, address and an example body, if it takes one, of every operation that is not everybody's."""
    for path, item in gateway.app.openapi()["paths"].items():
        for method, operation in item.items():
            if (method.upper(), path) not in EVERYBODY:
                body = operation["requestBody"]["content"]["application/json"]["example"] if "requestBody" in operation else None
                yield method.upper(), path, body


def address(path: str) -> str:
    return path.replace("{session_id}", "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000").replace("{code}", "busy").replace("{", "").replace("}", "")


async def raw(gateway: Gateway, request: bytes) -> bytes:
    """What is answered to these bytes, as they are, until the gateway hangs up: a client library would have put them right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.client.base_url.port)
    writer.write(request)
    answer = await reader.read(400)
    writer.close()
    return answer
