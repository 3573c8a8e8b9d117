"""A gateway where everybody signs in, and a worker that decides for every noun. Whoever takes them says by `guarded` how it is set."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.platform import Gateway, deciding, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(guarded: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with deciding(guarded, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        yield worker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(guarded: Settings, worker: Process) -> AsyncIterator[Gateway]:
    async with serving(guarded) as gateway:
        yield gateway
