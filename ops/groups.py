"""The consumer groups of our processes, and whether the cluster is ready for members of them."""

import asyncio
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from tenacity import AsyncRetrying, retry_if_exception, wait_fixed

from ops import kafka
from ops.settings import Settings

WORKER, EXECUTOR, PROJECTOR, RELATIONS = "soma-worker", "soma-executor", "soma-projector", "soma-relations"
SECONDS = 20.0
PAUSE_SECONDS = 0.1


async def settle(settings: Settings) -> None:
    """Returns once every group has a coordinator that answers, or after SECONDS.

    A cluster makes its coordinators when it is asked for the first one, and loads them after each start. Whoever joins before that is
    turned away, tries again, and fills its log with errors about a cluster that is well.
    """
    admin = AIOKafkaAdminClient(**kafka.aiokafka(settings))
    retrying = AsyncRetrying(retry=retry_if_exception(_passes), wait=wait_fixed(PAUSE_SECONDS), reraise=True)
    try:
        with suppress(KafkaError, TimeoutError):  # what else is wrong is for those to say who join
            async with asyncio.timeout(SECONDS):
                await admin.start()
                for group in (WORKER, EXECUTOR, PROJECTOR, RELATIONS):
                    await retrying(_ask, admin, group)
    finally:
        await admin.close()


async def _ask(admin: AIOKafkaAdminClient, group: str) -> None:
    """Raises KafkaError. (librdkafka's way to ask this ends the process now and then, where the coordinator is not there yet.)"""
    for response in await admin.describe_consumer_groups([group]):
        for code, *_ in response.groups:
            if code:
                raise for_code(code)


def _passes(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and error.retriable
