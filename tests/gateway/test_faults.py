"""Kafka goes away, or its log is not what it was: what a caller is told, and that a retry settles it (rule 12)."""

import asyncio
import os
import signal
from datetime import UTC, datetime

import msgspec

from ops.embedded.kafka import Kafka
from ops.settings import Settings
from schemas.types.session import SessionClosed, SessionEvent
from tests.gateway.platform import Gateway, last_event, running, until
from tests.history import Written, produce

BODY = {"model": "echo", "input": "hello"}


async def test_kafka_goes_down_and_comes_back(own_kafka: Kafka, own_settings: Settings) -> None:
    async with running(own_settings) as platform:
        client = platform.client
        # given
        before = (await client.post("/v1/sessions", json=BODY)).json()
        await client.get(f"/v1/sessions/{before['id']}?position={before['position']}")
        # when it freezes, and is gone
        os.kill(own_kafka.pid or 0, signal.SIGSTOP)
        caught = await client.post("/v1/sessions", json=BODY)
        own_kafka.kill()
        await until(client, "kafka", "down")
        refused = await client.post("/v1/sessions", json=BODY)
        read = await client.get(f"/v1/sessions/{before['id']}")
        # then
        unknown = caught.json()
        assert (caught.status_code, unknown["code"], unknown["outcome"]) == (503, "outcome_unknown", "unknown")
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "unavailable", "1")
        assert "nothing was sent" in refused.json()["detail"]
        assert (read.status_code, read.json()) == (200, before)
        # when
        await own_kafka.start()
        await platform.gateway.until_healthy()
        settled = await client.post("/v1/sessions", json=BODY, headers={"Idempotency-Key": unknown["idempotency_key"]})
        # then
        assert (settled.status_code, settled.json()["id"]) == (201, unknown["session_id"])
        sessions = (await client.get(f"/v1/sessions?position={settled.json()['position']}")).json()["sessions"]
        assert sorted(session["id"] for session in sessions) == sorted([before["id"], unknown["session_id"]])


async def test_who_waits_when_kafka_goes_down_is_told_what_is_sure(own_kafka: Kafka, own_settings: Settings) -> None:
    async with running(own_settings) as platform:
        # given
        platform.worker.replying.clear()
        waiting = asyncio.create_task(platform.client.post("/v1/sessions", json=BODY))
        while "soma_writes_in_flight 1.0" not in (await platform.client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        sessions: list[object] = []
        while not sessions:
            sessions = (await platform.client.get("/v1/sessions")).json()["sessions"]
        # when
        own_kafka.kill()
        # then
        assert (await waiting).status_code == 202


async def test_a_gateway_that_starts_without_kafka_reads_and_says_what_it_waits_for(
    own_kafka: Kafka, own_settings: Settings, unused_tcp_port: int
) -> None:
    async with running(own_settings) as platform:
        # given
        session = (await platform.client.post("/v1/sessions", json=BODY)).json()
        await platform.client.get(f"/v1/sessions/{session['id']}?position={session['position']}")
        own_kafka.kill()
        async with Gateway(own_settings.model_copy(update={"gateway_port": unused_tcp_port})) as gateway:
            # then
            async with asyncio.timeout(20):
                while "reading" not in await until(gateway.client, "gateway", "down"):
                    await asyncio.sleep(0.05)  # first it waits for the schemas
            assert (await gateway.client.get("/health/live")).status_code == 200
            assert (await gateway.client.get(f"/v1/sessions/{session['id']}")).json() == session
            for url in ("/v1/sessions", f"/v1/sessions/{session['id']}/messages"):
                answer = await gateway.client.post(url, json={"input": "hello"} | ({"model": "echo"} if url.endswith("sessions") else {}))
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            # when
            await own_kafka.start()
            # then
            await gateway.until_healthy()


async def test_a_broken_chain_ends_the_gateway(own_settings: Settings) -> None:
    async with running(own_settings) as platform:
        # given
        session = (await platform.client.post("/v1/sessions", json={"model": "echo"})).json()
        codec, event = await last_event(platform, session["id"])
        partition = event.meta.command.partition
        head = platform.gateway.app.state.parts.streams._tail.readings[partition].head
        meta = msgspec.structs.replace(
            event.meta, sequence=head.sequence + 1, previous=head.digest, version=2, versions=head.versions + 2, time=datetime.now(UTC)
        )
        broken = codec.encode(SessionEvent(meta=meta, body=SessionClosed()))
        # when
        produce(own_settings.kafka_bootstrap_servers or "", [Written(session["id"].encode(), broken, [])], partition)
        # then
        assert "versioned events" in await until(platform.client, "gateway", "down")
        await asyncio.wait_for(platform.gateway.stopped.wait(), 10)
        await platform.projecting.abandon()
