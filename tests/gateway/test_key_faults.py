"""API keys where Kafka cannot be asked: what is not proved to be good is not taken, and nothing is forgotten."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ops.embedded.kafka import Kafka
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process, environment, until
from tests.gateway.keys import PEPPER, bearer, issue
from tests.gateway.platform import PARTITIONS, Gateway, prepare
from tests.services import platform_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Wire:
    """A network between a gateway and the broker. Cut, it loses nothing and closes nothing: it is only silent."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._whole = asyncio.Event()
        self._whole.set()
        self._carrying = set[asyncio.Task[None]]()

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65_536):
                await self._whole.wait()
                target.write(piece)
                await target.drain()
        except ConnectionError:
            pass  # one side has gone, and the other is told so
        finally:
            target.close()


class Stage:
    """A broker, a worker, a gateway beside the broker, and one at the end of a wire."""

    def __init__(self, broker: Kafka, wire: Wire, near: Gateway, far: Gateway) -> None:
        self.broker, self.wire, self.near, self.far = broker, wire, near, far


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(registry: str, module_postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    direct, controller, wired = free_port(), free_port(), free_port()
    wire, directory = Wire(wired), tmp_path_factory.mktemp("platform")
    listeners = {
        "listeners": f"PLAINTEXT://127.0.0.1:{direct},WIRED://127.0.0.1:{wired},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{direct},WIRED://127.0.0.1:{wire.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,WIRED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    broker = Kafka(directory, direct, controller, listeners)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(wire)
        await broker.start()
        stack.callback(broker.kill)
        near = _settings(broker, registry, module_postgres, directory)
        await asyncio.to_thread(prepare, near)
        worker = Process("worker", environment(near), directory / "worker.log")
        worker.keep()
        stack.push_async_callback(worker.destroy)
        await until(lambda: "own partitions [0] of soma.access.commands" in worker.written(), "the worker owns the keys")
        gateways = [
            await stack.enter_async_context(Gateway(settings.model_copy(update={"gateway_port": free_port()})))
            for settings in (near, near.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{wire.port}"}))
        ]
        for gateway in gateways:
            await _ready(gateway)
        yield Stage(broker, wire, *gateways)


def _settings(broker: Kafka, registry: str, database: str, directory: Path) -> Settings:
    settings = platform_settings(broker, registry, database, directory)
    return settings.model_copy(update={"kafka_cfg_num_partitions": PARTITIONS, "soma_keys_pepper": PEPPER, "gateway_wait_seconds": 20.0})


async def _ready(gateway: Gateway) -> None:
    """It knows all keys. There is no projector here, so its health is not whole."""
    async with asyncio.timeout(60):
        while (await gateway.client.get("/v1/keys")).status_code != 200:
            await asyncio.sleep(0.05)


async def status(gateway: Gateway, secret: str | None) -> int:
    """What who shows the secret is answered."""
    return (await gateway.client.get("/v1/keys", headers=bearer(secret))).status_code


async def comes_to(gateway: Gateway, secret: str | None, wanted: int) -> None:
    """Returns once that is the answer; every answer before it is that nothing can be told."""
    async with asyncio.timeout(60):
        while (found := await status(gateway, secret)) != wanted:
            assert found == 503, f"{found} where only {wanted} or 503 is right"


async def test_a_gateway_that_is_cut_off_takes_no_key_until_it_has_read_what_happened_meanwhile(stage: Stage) -> None:
    # given two keys that both gateways take
    revoked, kept = [await issue(stage.near.client) for _ in range(2)]
    for secret in (revoked.secret, kept.secret):
        assert await status(stage.far, secret) == 200
    # when one gateway is cut off, and a key is revoked at the other
    stage.wire.cut()
    assert (await stage.near.client.delete(f"/v1/keys/{revoked.id}")).status_code == 200
    answered = time.monotonic()
    # then within the second neither key is taken there, for it cannot tell them apart
    while time.monotonic() < answered + 1:
        await asyncio.sleep(0.05)
    for secret in (revoked.secret, kept.secret):
        assert await status(stage.far, secret) == 503
    assert [await status(stage.near, secret) for secret in (revoked.secret, kept.secret)] == [401, 200]
    # when it is connected again, then the one is refused, never taken, and the other is good
    stage.wire.mend()
    await comes_to(stage.far, revoked.secret, 401)
    await comes_to(stage.far, kept.secret, 200)


async def test_a_gateway_whose_process_stood_still_believes_nothing_that_it_knew_before(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # given a gateway as a process of its own
    settings = stage.near.app.state.parts.settings.model_copy(update={"gateway_port": free_port()})
    frozen = Process("gateway", environment(settings), tmp_path_factory.mktemp("gateway") / "gateway.log")
    await frozen.start()
    try:
        key = await issue(stage.near.client)
        address = f"http://127.0.0.1:{settings.gateway_port}/v1/keys"
        await _answers(stage.near, address, key.secret, 200)
        # when it stands still while the key is revoked, and longer than proofs are good for
        frozen.send(signal.SIGSTOP)
        await frozen.frozen()
        assert (await stage.near.client.delete(f"/v1/keys/{key.id}")).status_code == 200
        await asyncio.sleep(1)
        frozen.send(signal.SIGCONT)
        # then its first word is not the one that it would have said before
        answer = await stage.near.client.get(address, headers=bearer(key.secret))
        assert answer.status_code in (401, 503)
        await _answers(stage.near, address, key.secret, 401)
    finally:
        await frozen.destroy()


async def _answers(client: Gateway, address: str, secret: str | None, wanted: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.client.get(address, headers=bearer(secret))).status_code == wanted:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.05)


async def test_while_the_broker_is_away_no_key_is_taken_and_none_is_forgotten(stage: Stage) -> None:
    # given
    kept, revoked = [await issue(stage.near.client) for _ in range(2)]
    await stage.near.client.delete(f"/v1/keys/{revoked.id}")
    # when
    stage.broker.kill()
    await asyncio.sleep(1)
    # then
    for gateway in (stage.near, stage.far):
        assert [await status(gateway, secret) for secret in (kept.secret, revoked.secret)] == [503, 503]
        assert (await gateway.client.get("/v1/keys")).status_code == 200, "what needs no key to be proved goes on"
    # when it is back
    await stage.broker.start()
    # then
    for gateway in (stage.near, stage.far):
        await comes_to(gateway, kept.secret, 200)
        await comes_to(gateway, revoked.secret, 401)
