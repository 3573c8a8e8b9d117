"""What an executor says about a call: that an attempt begins, and how it ended. Said until Kafka has it."""

import logging

from aiokafka.errors import KafkaError
from msgspec import Struct, structs
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from ops.artifacts import Artifacts, StoreDown
from ops.seal import Erased, KeysDown, Seals
from schemas import sealing
from schemas.chain import digest
from schemas.ids import derived_id
from schemas.types.common import Usage
from schemas.types.session import BeginCall, RecordResult
from streams.services import Services
from streams.session import SESSION
from streams.tools.running import Result

log = logging.getLogger("soma.executor")
INLINE_BYTES = 64 << 10
"""A longer result goes to the artifact store."""
SHOWN_CHARACTERS = 4_000
"""What a model is shown of a result that is not all in the record."""
ERASED = b"What the tool said is not kept: the key of the session's text was destroyed."
UNSURE = ": nobody knows whether this call had its effect. Do not repeat it by yourself."


class About(Struct, frozen=True):
    """An attempt of a call, and the session that waits for it. `repeat_safe` and `cost_micros` are its tool's, `seal` the session's key."""

    partition: int
    session_id: str
    tenant: str
    call: str
    attempt: int
    repeat_safe: bool
    cost_micros: int
    seal: str | None


class Report:
    """The ledger's only writer in an executor."""

    def __init__(self, services: Services, artifacts: Artifacts, seals: Seals) -> None:
        self._services, self._artifacts, self._seals = services, artifacts, seals

    async def begin(self, about: About, executor: str) -> None:
        """Ask for the right to make this attempt: the event that follows gives it to one executor."""
        body = BeginCall(call=about.call, attempt=about.attempt, executor=executor)
        await self._send(about, derived_id(about.call, "begin", about.attempt, executor), body)

    async def result(self, about: About, result: Result) -> None:
        """How the attempt ended, under one id for all its outcomes (rule 11)."""
        if result.unsure and not about.repeat_safe:
            result = structs.replace(result, content=result.content + UNSURE.encode())
        await self._send(about, derived_id(about.call, "result", about.attempt, ""), await self._sealed(about, result))

    async def settle(self, about: About, result: Result) -> None:
        """How an attempt ended of which nobody knew, as the tool says now. It was charged when it became unknown."""
        said = structs.replace(await self._sealed(about, result), usage=None)
        await self._send(about, derived_id(about.call, "status", about.attempt), said)

    async def _sealed(self, about: About, result: Result) -> RecordResult:
        """For the record. What was said to a session that was erased meanwhile is not kept."""
        if about.seal is None:
            return await self._recorded(about, result, digest(result.content))
        try:
            key = await self._seals.key_at_last(about.seal)
            recorded = await self._recorded(about, result, key.digest(result.content))
            return sealing.sealed(recorded, key, about.session_id)
        except Erased:
            lost = structs.replace(result, content=ERASED)
            return await self._recorded(about, lost, digest(ERASED))

    async def _recorded(self, about: About, result: Result, checksum: bytes) -> RecordResult:
        """All of it, or its beginning and where the rest lies. Raises Erased."""
        size, artifact = len(result.content), None
        text = result.content.decode(errors="replace")
        if size > INLINE_BYTES:
            artifact = await self._kept(about, checksum, result.content)
            lost = "" if artifact else " The rest could not be kept."
            text = f"{text[:SHOWN_CHARACTERS]}\n… the first {SHOWN_CHARACTERS} characters of {size} bytes.{lost}"
        return RecordResult(
            call=about.call,
            attempt=about.attempt,
            outcome="unknown" if result.unsure and not about.repeat_safe else result.outcome,
            content=text,
            digest=checksum,
            bytes=size,
            artifact=artifact,
            retry=result.retry,
            usage=Usage(input_tokens=0, output_tokens=0, cost_micros=about.cost_micros),
        )

    async def _kept(self, about: About, checksum: bytes, content: bytes) -> str | None:
        """Its address. None where the store fails: that the call ended is recorded all the same. Raises Erased."""
        try:
            return await self._artifacts.keep(about.tenant, checksum, content, about.seal)
        except (StoreDown, KeysDown) as error:
            log.error("call %s: its result of %d bytes is not kept: %s", about.call, len(content), error)
            return None

    async def _send(self, about: About, id: str, body: BeginCall | RecordResult) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(KafkaError),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(self._services.send, SESSION, about.partition, about.session_id, id, about.tenant, body, {})
