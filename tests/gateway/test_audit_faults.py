"""Kafka is gone, a gateway dies, there is no more room, the record is tampered with: what becomes of the gate's decisions."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from ops import kafka as clients
from ops.embedded.kafka import Kafka
from ops.settings import Settings
from projections.audit import EVENTS, Entry, audit_id
from projections.trail import export, verify
from schemas.codec import Codec
from schemas.ids import partition_of
from schemas.registry import Registry
from schemas.types.audit import AuditEvent
from streams.audit import AUDIT
from tests.commands.test_audit import note
from tests.faults.cluster import Process, environment, until
from tests.gateway.platform import Gateway, deciding
from tests.gateway.platform import until as until_health
from tests.history import History, produce
from tests.projections.test_proof import alter

SECONDS = 60.0
TENANT = "default"


async def recorded(settings: Settings, count: int) -> list[Entry]:
    """The tenant's decisions about models, once there are as many."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = [entry for entry in await asyncio.to_thread(list, export(settings, TENANT)) if entry.decision.action == "model.list"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.2)


async def test_what_a_killed_gateway_wrote_down_is_on_record_once_when_kafka_is_back(
    own_kafka: Kafka, own_settings: Settings, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{own_settings.gateway_port}", timeout=20) as client:
        gateway = Process("gateway", environment(own_settings), tmp_path / "gateway.log")
        spool = own_settings.soma_data_dir / "audit-0.spool"
        async with deciding(own_settings, tmp_path / "worker.log"):
            # given a gateway of which one decision is on record
            await gateway.start()
            await _healthy(client)
            assert (await client.get("/v1/models")).status_code == 200
            await recorded(own_settings, 1)
        # when Kafka is gone, and it goes on letting reads in
        own_kafka.kill()
        await until_health(client, "kafka", "down")
        for _ in range(30):
            assert (await client.get("/v1/models")).status_code == 200
        await until_health(client, "audit", "degraded")
        await until(lambda: spool.read_bytes().count(b'"model.list"') >= 30, "all of it is written down")
        # and is killed, and Kafka is back, and another gateway starts
        gateway.kill()
        await own_kafka.start()
        await gateway.start()
        async with deciding(own_settings, tmp_path / "worker.log"):
            await _healthy(client)
            await until_health(client, "audit", "ok")
            assert (await client.get("/v1/models")).status_code == 200
            # then each decision is on record, once
            found = await recorded(own_settings, 32)
        await gateway.stop()
    assert len(found) == 32
    assert set(Counter(entry.decision.id for entry in found).values()) == {1}
    assert spool.stat().st_size == 0
    assert verify(own_settings).findings == []


async def test_a_gateway_without_room_for_decisions_is_closed_and_says_so_until_kafka_is_back(
    own_kafka: Kafka, own_settings: Settings, tmp_path: Path
) -> None:
    settings = own_settings.model_copy(update={"gateway_audit_spool_bytes": 4096})
    async with deciding(settings, tmp_path / "worker.log"), Gateway(settings) as gateway:
        await until_health(gateway.client, "gateway", "ok")
        # given
        own_kafka.kill()
        await until_health(gateway.client, "kafka", "down")
        # when
        let_in = 0
        async with asyncio.timeout(SECONDS):
            while (answer := await gateway.client.get("/v1/models")).status_code == 200:
                let_in += 1
                await asyncio.sleep(0.01)
        # then
        assert (answer.status_code, answer.json()["code"]) == (503, "audit_full")
        assert "nothing was sent" in answer.json()["detail"]
        assert answer.headers["retry-after"]
        assert "wait here" in await until_health(gateway.client, "audit", "down")
        # when Kafka is back, then it opens, and nothing is missing
        await own_kafka.start()
        await until_health(gateway.client, "audit", "ok")
        assert (await gateway.client.get("/v1/models")).status_code == 200
        assert len(await recorded(settings, let_in + 1)) == let_in + 1


async def test_a_gateway_that_cannot_write_to_its_disk_is_closed(own_kafka: Kafka, own_settings: Settings, tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("no directory")
    async with Gateway(own_settings.model_copy(update={"soma_data_dir": nowhere})) as gateway:
        async with asyncio.timeout(SECONDS):
            while (answer := await gateway.client.get("/v1/models")).json().get("code") != "audit_full":
                await asyncio.sleep(0.05)
    assert "disk" in answer.json()["detail"]


def history(settings: Settings, batches: int = 6) -> tuple[History, int]:
    """What a worker would append of one tenant's decisions."""
    codec: Codec[AuditEvent] = Registry(clients.registry(settings)).codec(EVENTS, AuditEvent)
    made, partition = History(codec, partition_of(audit_id("t")), tenant="t", noun=AUDIT), partition_of(audit_id("t"))
    for number in range(1, batches + 1):
        made.send(audit_id("t"), note(number, f"gateway-{number}"))
    return made, partition


def said(settings: Settings, monkeypatch: Any, command: str = "verify") -> tuple[int, str]:
    """What `soma audit verify` prints, and its exit code."""
    from gateway.cli import audit
    from projections import cli_audit

    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    if not audit.registered_commands or all(each.callback is not cli_audit.verify for each in audit.registered_commands):
        audit.command("verify")(cli_audit.verify)
        audit.command("export")(cli_audit.export)
    done = CliRunner().invoke(audit, [command])
    return done.exit_code, done.output


async def test_a_record_that_was_altered_on_disk_is_found_where_it_is(own_kafka: Kafka, own_settings: Settings, monkeypatch: Any) -> None:
    # given a record that is whole
    made, partition = history(own_settings)
    produce(own_kafka.bootstrap, made.take(), partition, topic=EVENTS)
    assert verify(own_settings) == ({"t": 6}, [])
    assert said(own_settings, monkeypatch)[0] == 0
    # when
    await own_kafka.stop()
    segment = Path(own_settings.soma_data_dir) / "kafka" / f"{EVENTS}-{partition}" / f"{0:020}.log"
    alter(segment, b"gateway-3", b"gAteway-3")
    await own_kafka.start()
    # then
    [finding] = verify(own_settings).findings
    assert (finding.partition, finding.problem.split(":")[0]) == (partition, "altered at or before offset 2")
    code, text = said(own_settings, monkeypatch)
    assert (code, "1 wrong" in text) == (1, True)


async def test_a_record_that_was_left_out_is_found(own_kafka: Kafka, own_settings: Settings) -> None:
    # given one record left out, in the middle of the others
    made, partition = history(own_settings)
    records = made.take()
    produce(own_kafka.bootstrap, records[:2] + records[3:], partition, topic=EVENTS)
    # then
    [finding] = verify(own_settings).findings
    assert finding.problem.startswith("altered at or before offset 1: offset 2 continues a record that is not in the log")


async def test_records_in_another_order_are_found(own_kafka: Kafka, own_settings: Settings) -> None:
    made, partition = history(own_settings)
    records = made.take()
    produce(own_kafka.bootstrap, [records[0], records[2], records[1], *records[3:]], partition, topic=EVENTS)
    verified = verify(own_settings)
    assert verified.decisions != {"t": 6}
    assert [finding.partition for finding in verified.findings] == [partition]


async def _healthy(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if (await client.get("/health")).json()["parts"]["gateway"]["status"] == "ok":
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
