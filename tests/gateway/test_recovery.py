"""Something else than Kafka is away, or comes back and remembers nothing: callers get the same answers."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest

from gateway.health import Health
from gateway.link import Link
from ops.settings import Settings
from schemas.ids import new_id
from schemas.registry import Registry
from schemas.types.session import SessionClosed
from tests.gateway.platform import Gateway, Platform, last_event, until
from tests.history import Written, produce

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = {"model": "echo", "input": "hello"}


@contextmanager
def database_down(settings: Settings) -> Iterator[None]:
    """Nobody can connect to the test's database, and whoever was is cut off."""
    address = urlsplit(settings.database_url or "")
    name = address.path.lstrip("/")
    with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


async def test_the_read_model_goes_down_and_catches_up(platform: Platform) -> None:
    client = platform.client
    # given a session that this gateway remembers, and one that it does not
    known = (await client.post("/v1/sessions", json=BODY)).json()
    old = (await client.post("/v1/sessions", json=BODY)).json()
    platform.gateway.app.state.parts.reader._recent._views.pop(old["id"])
    # when
    with database_down(platform.settings):
        written = await client.post("/v1/sessions", json=BODY)
        said = await client.post(f"/v1/sessions/{known['id']}/messages", json={"input": "more"})
        elsewhere = await client.post(f"/v1/sessions/{old['id']}/messages", json={"input": "more"})
        read = [await client.get(path) for path in ("/v1/sessions", f"/v1/sessions/{known['id']}", f"/v1/sessions/{known['id']}/events")]
        health = await client.get("/health")
    # then
    assert (written.status_code, written.json()["messages"][1]["content"]) == (201, "echo: hello")
    assert (said.status_code, len(said.json()["messages"])) == (200, 4)
    assert elsewhere.status_code == 202
    assert [(answer.status_code, answer.json()["code"]) for answer in read] == [(503, "read_model_down")] * 3
    assert (health.status_code, health.json()["parts"]["read_model"]["status"]) == (503, "down")
    # and then
    await until(client, "read_model", "ok")
    answer = await client.get(f"/v1/sessions/{old['id']}?position={elsewhere.json()['position']}")
    assert answer.json()["messages"][2]["content"] == "more"


async def test_rows_that_another_release_made_are_told_and_shown(platform: Platform) -> None:
    # given a read model that another release's code made
    session = (await platform.client.post("/v1/sessions", json=BODY)).json()
    await platform.client.get(f"/v1/sessions/{session['id']}", params={"position": session["position"]})  # returns once it is projected
    with psycopg.connect(platform.settings.database_url or "", autocommit=True, options="-csearch_path=read_model") as connection:
        sessions = "topic = 'soma.session.events'"
        [ours] = connection.execute(f"SELECT DISTINCT fold FROM positions WHERE {sessions}").fetchone() or ()
        await platform.client.get(f"/v1/sessions/{session['id']}?position={session['position']}")
        await platform.projecting.stop()
        connection.execute(f"UPDATE positions SET fold = 'another' WHERE {sessions}")
        # when / then
        assert "`soma rebuild`" in await until(platform.client, "read_model", "degraded")
        assert (await platform.client.get(f"/v1/sessions/{session['id']}")).status_code == 200
        # and then
        connection.execute(f"UPDATE positions SET fold = %s WHERE {sessions}", [ours])
    platform.projecting.start()
    await until(platform.client, "read_model", "ok")


@asynccontextmanager
async def another_gateway(platform: Platform, port: int) -> AsyncIterator[Gateway]:
    """A gateway that remembers nothing, beside the platform's own."""
    async with Gateway(platform.settings.model_copy(update={"gateway_port": port})) as gateway:
        await gateway.until_healthy()
        yield gateway


async def test_a_gateway_that_remembers_nothing_answers_the_same(platform: Platform, unused_tcp_port: int) -> None:
    # given
    key = {"Idempotency-Key": "k-1"}
    first = await platform.client.post("/v1/sessions", json=BODY, headers=key)
    async with another_gateway(platform, unused_tcp_port) as other:
        # when
        again = await other.client.post("/v1/sessions", json=BODY, headers=key)
        said = await other.client.post(f"/v1/sessions/{first.json()['id']}/messages", json={"input": "more"})
        refused = await other.client.post(f"/v1/sessions/{first.json()['id']}/close", headers={"If-Match": '"1"'})
    # then
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, first.json(), "true")
    assert (said.status_code, [message["content"] for message in said.json()["messages"]][2:]) == (200, ["more", "echo: more"])
    assert (refused.json()["code"], refused.json()["session"]["version"]) == ("version_conflict", 7)


async def test_a_key_used_while_the_first_turn_runs_waits_for_its_end(platform: Platform, unused_tcp_port: int) -> None:
    # given
    platform.worker.replying.clear()
    headers = {"Idempotency-Key": "k-1", "Prefer": "wait=0"}
    accepted = await platform.client.post("/v1/sessions", json=BODY, headers=headers)
    await platform.client.get(f"/v1/sessions/{accepted.json()['id']}?position={accepted.json()['position']}")
    async with another_gateway(platform, unused_tcp_port) as other:
        # when
        again = asyncio.create_task(other.client.post("/v1/sessions", json=BODY, headers={"Idempotency-Key": "k-1"}))
        await platform.client.get(f"/v1/sessions/{accepted.json()['id']}/events", headers={"Accept": "application/json"})
        platform.worker.replying.set()
        # then
        assert ((await again).status_code, (await again).json()["messages"][1]["content"]) == (201, "echo: hello")


async def test_a_worker_that_is_away_decides_later(platform: Platform) -> None:
    # given
    platform.worker.deciding.clear()
    answer = await platform.client.post("/v1/sessions", json=BODY, headers={"Idempotency-Key": "k", "Prefer": "wait=1"})
    assert answer.status_code == 202
    # when
    platform.worker.deciding.set()
    settled = await platform.client.post("/v1/sessions", json=BODY, headers={"Idempotency-Key": "k"})
    # then
    assert (settled.status_code, settled.json()["id"], settled.json()["version"]) == (201, answer.json()["id"], 4)


async def test_without_a_read_model_the_events_are_read_from_their_beginning(platform: Platform, unused_tcp_port: int) -> None:
    first = (await platform.client.post("/v1/sessions", json=BODY)).json()
    with database_down(platform.settings):
        settings = platform.settings.model_copy(update={"gateway_port": unused_tcp_port})
        async with Gateway(settings) as other:
            await until(other.client, "gateway", "ok")
            said = await other.client.post(f"/v1/sessions/{first['id']}/messages", json={"input": "more"})
            assert (said.status_code, len(said.json()["messages"])) == (200, 4)
    await platform.gateway.until_healthy()


async def test_a_forged_record_is_not_shown(platform: Platform) -> None:
    # given
    session = (await platform.client.post("/v1/sessions", json={"model": "echo"})).json()
    codec, event = await last_event(platform, session["id"])
    forged = msgspec.structs.replace(event, meta=msgspec.structs.replace(event.meta, version=2, command_id=new_id(0)), body=SessionClosed())
    partition = event.meta.command.partition
    # when
    produce(platform.settings.kafka_bootstrap_servers or "", [Written(session["id"].encode(), codec.encode(forged), [])], partition)
    said = await platform.client.post(f"/v1/sessions/{session['id']}/messages", json={"input": "hi"}, headers={"Prefer": "wait=1"})
    # then: the worker of this test did not see the record, so its own next one lies behind it and continues the chain all the same
    assert (said.status_code, said.json()["status"], said.json()["version"]) == (200, "idle", 4)


async def test_a_registry_that_is_away_takes_nothing_out_of_service(platform: Platform) -> None:
    parts = platform.gateway.app.state.parts
    records = copy.copy(parts.reader._records)
    records.registry = Registry({"url": "http://127.0.0.1:1", "max.retries": 0})
    health = Health(parts.writer._link, parts.writer._tail, [parts.tools.catalogue], records, parts.reader, parts.sign_in, parts.audit)
    document = await health.document(in_detail=True)
    assert (document["status"], document["parts"]["registry"]["status"]) == ("degraded", "degraded")
    assert isinstance(parts.writer._link, Link)
