"""A gateway where everybody signs in, and a worker that decides for every noun. Whoever takes them says by `guarded` how it is set."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ops.settings import Settings
from tests.faults.cluster import Process, environment, until
from tests.gateway.platform import Gateway, Projecting


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(guarded: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    worker = Process("worker", environment(guarded), tmp_path_factory.mktemp("worker") / "worker.log")
    await worker.start()
    await until(lambda: "of soma.audit.commands" in worker.written(), "the worker owns the audit")
    yield worker
    await worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(guarded: Settings, worker: Process) -> AsyncIterator[Gateway]:
    projecting = Projecting(guarded)
    projecting.start()
    async with Gateway(guarded) as gateway:
        await gateway.until_healthy()
        yield gateway
    await projecting.stop()
