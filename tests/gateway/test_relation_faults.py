"""Relations when OpenFGA is gone, silent, or empty: nobody is let in by it, it takes no longer than it may, and its return is noticed."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from gateway.problems import RelationsDown
from gateway.relation_engine import Server as Engine
from gateway.relations import Relations
from ops import fga
from ops.fga import OpenFga
from ops.settings import Settings
from projections.reach import Thing
from tests.gateway.related import Platform, platform, related, server, session, share, signed_in
from tests.gateway.test_policy import silent
from tests.openfga import OpenFga as Server

__all__ = ["platform", "related", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ADA, BOB, EVE = (signed_in(name) for name in ("ada", "bob", "eve"))


async def tuples(url: str, name: str) -> set[tuple[str, str, str]]:
    """All that a store holds, but for how far it is written."""
    async with httpx.AsyncClient(base_url=url) as client:
        stores = (await client.get("/stores", params={"name": name})).json()["stores"]
        found, more = set[tuple[str, str, str]](), {"page_size": 100}
        while stores:
            page = (await client.post(f"/stores/{stores[0]['id']}/read", json=more)).json()
            found |= {(each["key"]["user"], each["key"]["relation"], each["key"]["object"]) for each in page["tuples"]}
            if not page["continuation_token"]:
                break
            more = {"page_size": 100, "continuation_token": page["continuation_token"]}
    return {each for each in found if not each[2].startswith("log:")}


async def until_met(client: httpx.AsyncClient, path: str, who: dict[str, str], status: int) -> None:
    async with asyncio.timeout(60):
        while (await client.get(path, headers=who)).status_code != status:
            await asyncio.sleep(0.1)


async def test_a_store_that_is_dropped_is_filled_from_the_record_and_is_the_same(
    platform: Platform, related: Settings, server: Server
) -> None:
    # given
    api, url, store = platform["openfga"].client, str(related.openfga_api_url), related.openfga_store
    id = await session(api, ADA)
    assert (await share(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
    before = await tuples(url, store)
    assert ("user:acme/bob", "viewer", f"session:acme/{id}") in before
    # when
    server.drop(store)
    await until_met(api, f"/v1/sessions/{id}", ADA, 503)
    await fga.prepare(related)
    # then
    async with asyncio.timeout(60):
        while await tuples(url, store) != before:
            await asyncio.sleep(0.1)
    assert [(await api.get(f"/v1/sessions/{id}", headers=who)).status_code for who in (ADA, BOB, EVE)] == [200, 200, 404]


async def test_while_the_server_is_gone_nobody_is_let_in_and_its_return_is_noticed(
    platform: Platform, related: Settings, server: Server
) -> None:
    # given
    api, other = platform["openfga"].client, platform["read_model"].client
    id = await session(api, ADA)
    assert (await share(api, f"sessions/{id}", "user:bob", "viewer", ADA)).status_code == 200
    # when
    server.stop()
    # then
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/calls"), ("GET", "/share")):
        answer = await api.request(method, f"/v1/sessions/{id}{path}", headers=ADA)
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "relations_down", "1")
    listed = await api.get("/v1/sessions", headers=ADA)
    assert (listed.status_code, listed.json()["code"]) == (503, "relations_down")
    # and who does not need it is not touched: a new session, a gateway that asks the read model, the projector
    assert (await api.post("/v1/sessions", json={"model": "echo"}, headers=ADA)).status_code == 201
    assert (await other.get(f"/v1/sessions/{id}", headers=BOB)).status_code == 200
    told = await share(other, f"sessions/{id}", "user:eve", "viewer", ADA)
    assert told.status_code == 200
    # when it is back, and has forgotten everything
    server.start()
    await fga.prepare(related)
    # then nothing was restarted, and it knows what happened meanwhile
    for who in (ADA, BOB, EVE):
        await until_met(api, f"/v1/sessions/{id}", who, 200)
    assert (await api.get(f"/v1/sessions/{id}", headers=signed_in("sam"))).status_code == 404


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_it_may_take() -> None:
    # given
    nobody: Any = None
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with fga.client(Settings(openfga_api_url=url), 60) as client:
            engine = Engine(OpenFga(client, "soma"), nobody)
            relations = Relations(engine, nobody, {}, nobody, nobody, on=True, seconds=0.2)
            # when
            started = time.monotonic()
            with pytest.raises(RelationsDown):
                await relations._check(given_of_ada(), "viewer", Thing("session", "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000"))
    # then: long before the client itself would have given up
    assert time.monotonic() - started < 30


def given_of_ada() -> Any:
    from projections.reach import Given

    return Given("acme", "user:ada")
