"""A platform whose events topic is empty: a module's tests share the broker; the topic's content and the database are each test's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from ops import kafka as clients
from ops.settings import Settings
from projections import database
from projections.applied import Applied
from projections.nouns import NOUNS
from projections.projector import serve
from projections.session import EVENTS
from schemas.codec import Codec
from schemas.registry import Registry
from schemas.types.session import SessionEvent

PARTITIONS = 2
SECONDS = 30.0
"""Longest wait for anything that ought to happen."""

Projecting = Callable[[Settings], AbstractAsyncContextManager[Applied]]


@pytest.fixture(autouse=True)
def only_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read model of sessions alone: what is shown of one noun holds for any, and a test that wants another adds it."""
    for topic in [topic for topic in NOUNS if topic != EVENTS]:
        monkeypatch.delitem(NOUNS, topic)


@pytest.fixture
def platform(module_platform: Settings, postgres: str) -> Settings:
    """PARTITIONS partitions with nothing in them, registered schemas, and a migrated database."""
    return prepared(module_platform.model_copy(update={"database_url": postgres}))


@pytest.fixture
def codec(platform: Settings) -> Codec[SessionEvent]:
    return codec_of(platform)


def prepared(settings: Settings) -> Settings:
    """The same, after everything that a projector needs was made."""
    emptied(settings, EVENTS, PARTITIONS)
    Registry(clients.registry(settings)).register()
    database.migrate(database.url(settings))
    return settings


def emptied(settings: Settings, topic: str, partitions: int) -> None:
    """The topic, with nothing in it."""
    admin = AdminClient(clients.confluent(settings))
    if topic in admin.list_topics(timeout=10).topics:
        admin.delete_topics([topic])[topic].result(10)
    _create(admin, NewTopic(topic, partitions, 1, config={"retention.ms": "-1"}))


def codec_of(settings: Settings) -> Codec[SessionEvent]:
    return Registry(clients.registry(settings)).codec(EVENTS, SessionEvent)


@asynccontextmanager
async def projecting(settings: Settings) -> AsyncIterator[Applied]:
    """A projector while entered, and what it applied. What made it stop is raised."""
    async with Applied(database.url(settings)) as applied:
        running = asyncio.create_task(serve(settings))
        try:
            yield applied
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def _create(admin: AdminClient, topic: NewTopic) -> None:
    """The name of a deleted topic is free again only after a moment."""
    while True:
        try:
            admin.create_topics([topic], operation_timeout=10)[topic.topic].result(10)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
        else:
            return
