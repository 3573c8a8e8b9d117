"""Between bytes and messages, for everything that the gateway reads and writes."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import TypeVar

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway.layout import LAYOUT
from gateway.problems import NothingSent
from projections.reading import EVENTS
from schemas.codec import Codec, headers
from schemas.registry import Registry, RegistryDown
from schemas.types.common import LayoutChanged
from schemas.types.session import OutputDelta, SessionCommand, SessionEvent

log = logging.getLogger("soma.gateway")
COMMANDS = "soma.session.commands"
OUTPUT = "soma.session.output"
T = TypeVar("T")


class Records:
    """Nothing can be read or written before `load` is through, which needs the registry once."""

    def __init__(self, registry: Registry, origin: str) -> None:
        self.registry, self._source = registry, f"/{origin}/gateway"
        self._commands: Codec[SessionCommand] | None = None
        self._events: Codec[SessionEvent] | None = None
        self._output: Codec[OutputDelta] | None = None
        self._layout: Codec[LayoutChanged] | None = None

    async def load(self) -> None:
        """Fetch the schemas, waiting for the registry. Raises NotRegistered."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RegistryDown),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(asyncio.to_thread, self.registry.ping)  # bounded, where `codec` would hold a thread for as long as it takes
        self._commands = await asyncio.to_thread(self.registry.codec, COMMANDS, SessionCommand)
        self._events = await asyncio.to_thread(self.registry.codec, EVENTS, SessionEvent)
        self._output = await asyncio.to_thread(self.registry.codec, OUTPUT, OutputDelta)
        self._layout = await asyncio.to_thread(self.registry.codec, LAYOUT, LayoutChanged)

    @property
    def loaded(self) -> bool:
        return self._layout is not None

    def command(self, command: SessionCommand, trace: dict[str, str]) -> tuple[bytes, list[tuple[str, bytes]]]:
        """Value and headers of a command's record. Raises NothingSent before `load` is through."""
        meta, kind = command.meta, f"soma.session.{type(command.body).__name__}"
        about = headers(id=meta.id, kind=kind, source=self._source, subject=meta.aggregate_id, time=datetime.now(UTC), trace=trace)
        return _loaded(self._commands).encode(command), about

    async def event(self, value: bytes | None) -> SessionEvent:
        """Raises Unreadable."""
        return await self.registry.adecode(_loaded(self._events), value)

    async def output(self, value: bytes | None) -> OutputDelta:
        """Raises Unreadable."""
        return await self.registry.adecode(_loaded(self._output), value)

    async def layout(self, value: bytes | None) -> LayoutChanged:
        """Raises Unreadable."""
        return await self.registry.adecode(_loaded(self._layout), value)


def _loaded(codec: T | None) -> T:
    if codec is None:
        raise NothingSent("The gateway is starting: it waits for the schema registry. Nothing was sent.")
    return codec
