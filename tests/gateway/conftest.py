"""One platform for the tests of a module; tests that break something take one of their own."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from ops.settings import Settings
from tests.gateway.platform import PARTITIONS, Platform, prepare, running


@pytest.fixture(scope="module")
def module_settings(module_platform: Settings) -> Settings:
    """Servers with topics, schemas and tables. Waits are short, so that a reply that does not come is soon seen."""
    settings = module_platform.model_copy(update={"kafka_cfg_num_partitions": PARTITIONS, "gateway_wait_seconds": 5.0})
    prepare(settings)
    return settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(module_settings: Settings) -> AsyncIterator[Platform]:
    async with running(module_settings) as platform:
        yield platform


@pytest.fixture
def client(platform: Platform) -> httpx.AsyncClient:
    return platform.client


@pytest.fixture
def own_settings(own_platform: Settings) -> Settings:
    """Prepared servers of which the test may kill the broker and the database."""
    settings = own_platform.model_copy(update={"kafka_cfg_num_partitions": PARTITIONS, "gateway_wait_seconds": 5.0})
    prepare(settings)
    return settings
