"""A platform on which relations count, asked through a gateway that has them from the read model, and one that asks OpenFGA."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ops import fga
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process, environment, until
from tests.gateway.keys import PEPPER
from tests.gateway.platform import Gateway, Projecting
from tests.gateway.signing import SECRET, bearer, hs256, saying
from tests.openfga import OpenFga as Server

USER = "sessions:read sessions:write calls:approve tools:admin tools:read agents:admin agents:read relations:read relations:write"
"""Scopes of somebody who may do everything that is not an admin's, as far as policies have a say."""
ENGINES = ("read_model", "openfga")
Platform = dict[str, Gateway]


def signed_in(actor: str, *, tenant: str = "acme", scope: str = USER) -> dict[str, str]:
    """The header of a caller."""
    return bearer(hs256(saying(sub=actor, tenant=tenant, scope=scope, iss=None, aud=None), SECRET.encode()))


ROOT = signed_in("root", scope=f"{USER} relations:admin")
"""Who is an admin of acme by a scope."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("openfga") / "openfga.log") as server:
        yield server


@pytest.fixture(scope="module")
def related(module_settings: Settings, server: Server) -> Settings:
    """Of a gateway that asks OpenFGA. It may take long, for the machine may be busy."""
    return module_settings.model_copy(
        update={
            "gateway_require_auth": True,
            "gateway_jwt_secret": SECRET,
            "soma_keys_pepper": PEPPER,
            "gateway_relations": "on",
            "gateway_relations_seconds": 5.0,
            "openfga_api_url": server.url,
        }
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(related: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Both gateways, over one worker and one projector, which writes tuples too."""
    await fga.prepare(related)
    worker, projecting = Process("worker", environment(related), tmp_path_factory.mktemp("worker") / "worker.log"), Projecting(related)
    async with AsyncExitStack() as stack:
        await worker.start()
        stack.push_async_callback(worker.stop)
        projecting.start()
        stack.push_async_callback(projecting.stop)
        other = related.model_copy(update={"gateway_port": free_port(), "openfga_api_url": None})
        gateways = [await stack.enter_async_context(Gateway(settings)) for settings in (other, related)]
        for gateway in gateways:
            await gateway.until_healthy()
        await until(lambda: "own partitions [0] of soma.relation.commands" in worker.written(), "the worker owns relations")
        yield dict(zip(ENGINES, gateways, strict=True))


@pytest.fixture(params=ENGINES)
def api(request: pytest.FixtureRequest, platform: Platform) -> httpx.AsyncClient:
    """A client of either gateway: what holds of one holds of the other."""
    return platform[request.param].client


async def session(api: httpx.AsyncClient, who: dict[str, str], **more: Any) -> str:
    """The id of a session that this caller started, and that the read model has."""
    answer = await api.post("/v1/sessions", json={"model": "echo", **more}, headers=who)
    assert answer.status_code == 201, answer.text
    id = str(answer.json()["id"])
    shown = await api.get(f"/v1/sessions/{id}", params={"position": answer.json()["position"]}, headers=who)
    assert shown.status_code == 200, shown.text
    return id


async def share(api: httpx.AsyncClient, path: str, subject: str, role: str, who: dict[str, str]) -> httpx.Response:
    return await api.post(f"/v1/{path}/share", json={"with": subject, "as": role}, headers=who)


async def unshare(api: httpx.AsyncClient, path: str, subject: str, role: str, who: dict[str, str]) -> httpx.Response:
    return await api.delete(f"/v1/{path}/share", params={"with": subject, "as": role}, headers=who)


def a_name() -> str:
    """One that nothing has yet."""
    return f"n{uuid.uuid4().hex[:12]}"
