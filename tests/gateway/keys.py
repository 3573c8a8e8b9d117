"""A platform whose gateways take API keys: fixtures of the tests about them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.keys import Keys
from gateway.problems import Unauthenticated
from gateway.v1.access_shapes import KeyWithSecret
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.platform import Gateway, deciding, serving

PEPPER = "a pepper for tests, long enough to be one"


@pytest.fixture(scope="module")
def peppered(module_settings: Settings) -> Settings:
    return module_settings.model_copy(update={"soma_keys_pepper": PEPPER, "gateway_port": free_port()})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(peppered: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with deciding(peppered, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        yield worker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(peppered: Settings, worker: Process) -> AsyncIterator[Gateway]:
    async with serving(peppered) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(gateway: Gateway, peppered: Settings) -> AsyncIterator[Gateway]:
    """Another gateway of the same platform, where everybody has to sign in."""
    guarded = peppered.model_copy(update={"gateway_port": free_port(), "gateway_require_auth": True})
    async with Gateway(guarded) as other:
        await other.until_healthy()
        yield other


@pytest.fixture
def api(gateway: Gateway) -> httpx.AsyncClient:
    return gateway.client


def gate(gateway: Gateway) -> Keys:
    keys: Keys = gateway.app.state.parts.keys
    return keys


async def issue(api: httpx.AsyncClient, name: str = "ci", **more: Any) -> KeyWithSecret:
    answer = await api.post("/v1/keys", json={"name": name, "scopes": ["*"], **more})
    assert answer.status_code == 201, answer.text
    return KeyWithSecret.model_validate_json(answer.content)


async def good(gateway: Gateway, secret: str | None) -> bool:
    """Whether the gate takes it."""
    assert secret
    try:
        await gate(gateway).principal(secret)
    except Unauthenticated:
        return False
    return True


def bearer(secret: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
