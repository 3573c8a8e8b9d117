"""The schema registry (Confluent REST API): which id a schema has, and which schema an id means."""

import asyncio
import json
import logging
from typing import Any, TypeVar

import msgspec
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.common._httpx_compat import httpx  # httpx or httpx2: which of them the client uses
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro import parse_schema
from tenacity import (
    AsyncRetrying,
    Retrying,
    before_sleep_log,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
    wait_random,
)

from schemas.codec import Codec, UnknownSchema, Unreadable
from schemas.contract import subjects

log = logging.getLogger("soma.registry")
M = TypeVar("M", bound=msgspec.Struct)
COMPATIBILITY = "BACKWARD_TRANSITIVE"


class NotRegistered(RuntimeError):
    """The registry does not have this schema yet."""


class RegistryDown(ConnectionError):
    """The registry does not answer. It may again."""


def _unreachable(error: BaseException) -> bool:
    """Whether waiting may help (rule 9: unreadable is not unreachable)."""
    return isinstance(error, httpx.TransportError) or (isinstance(error, SchemaRegistryError) and error.http_status_code >= 500)


waiting = Retrying(retry=retry_if_exception(_unreachable), wait=wait_exponential_jitter(multiplier=0.2, max=5))


conflict = retry_if_exception_type(SchemaRegistryError)
once_more = Retrying(retry=conflict, stop=stop_after_attempt(3), wait=wait_random(0.1, 0.5), reraise=True)
"""For what two processes that register at the same moment can both begin, and one of them is told 409."""


class Registry:
    """`config` is what confluent-kafka's SchemaRegistryClient takes. Blocking calls wait for as long as the registry does not answer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._client = SchemaRegistryClient(config)
        self._writers: dict[int, Any] = {}

    def register(self) -> dict[str, int]:
        """Register every schema of the contract and hold it to BACKWARD_TRANSITIVE. Subject → schema id.

        Raises SchemaRegistryError (409) when a schema breaks an earlier version.
        """
        ids = {}
        for subject, schema in subjects().items():
            ids[subject] = self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
            once_more(self._client.set_compatibility, subject, COMPATIBILITY)
        return ids

    def incompatible(self) -> list[str]:
        """Subjects whose schema in the repo would break a version that the registry has."""
        known = set(self._client.get_subjects())
        return [
            subject
            for subject, schema in subjects().items()
            if subject in known and not self._client.test_compatibility(subject, Schema(json.dumps(schema), "AVRO"))
        ]

    def codec(self, topic: str, message: type[M]) -> Codec[M]:
        """The codec for a topic's values. Raises NotRegistered when `soma schemas register` has not been run."""
        subject = f"{topic}-value"
        own = Schema(json.dumps(subjects()[subject]), "AVRO")
        try:
            current = waiting(self._client.lookup_schema, subject, own)
            versions = waiting(self._client.get_versions, subject)
            known = [waiting(self._client.get_version, subject, version) for version in versions]
        except SchemaRegistryError as error:
            raise NotRegistered(f"{subject} is not in the registry as this release knows it: run `soma schemas register`") from error
        ids = [registered.schema_id or 0 for registered in (current, *known)]
        for schema_id in set(ids):
            self.learn(schema_id)
        return Codec(message, ids[0], self._writers)

    def learn(self, schema_id: int) -> None:
        """Fetch a writer's schema. Raises Unreadable when the registry does not have it."""
        try:
            found = waiting(self._client.get_schema, schema_id)
        except SchemaRegistryError as error:
            raise Unreadable(f"the registry has no schema {schema_id}") from error
        self._writers[schema_id] = parse_schema(json.loads(found.schema_str or "null"))

    def decode(self, codec: Codec[M], value: bytes | None) -> M:
        """As Codec.decode, fetching the writer's schema when it is new. Blocks; raises Unreadable."""
        while True:
            try:
                return codec.decode(value)
            except UnknownSchema as unknown:
                self.learn(unknown.schema_id)

    async def adecode(self, codec: Codec[M], value: bytes | None) -> M:
        """As `decode`, without blocking the event loop while a schema is fetched."""
        while True:
            try:
                return codec.decode(value)
            except UnknownSchema as unknown:
                await asyncio.to_thread(self.learn, unknown.schema_id)

    async def answers(self) -> None:
        """Returns once it answers. Bounded questions, where `codec` would hold a thread for as long as it takes."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RegistryDown),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(asyncio.to_thread, self.ping)

    def ping(self) -> None:
        """Raises RegistryDown when the registry does not answer."""
        try:
            self._client.get_subjects()
        except (httpx.TransportError, SchemaRegistryError) as error:
            raise RegistryDown(f"The schema registry does not answer: {error!r}. Check SCHEMA_REGISTRY_URL.") from error
