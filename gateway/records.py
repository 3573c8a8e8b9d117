"""Between bytes and messages, for everything that the gateway reads and writes."""

import asyncio
from datetime import UTC, datetime
from typing import TypeVar

from gateway.layout import LAYOUT
from gateway.problems import NothingSent
from projections.session import EVENTS
from schemas.codec import Codec, headers
from schemas.registry import Registry
from schemas.signing import Keys
from schemas.types.common import LayoutChanged
from schemas.types.session import OutputDelta, SessionCommand, SessionEvent

COMMANDS = "soma.session.commands"
OUTPUT = "soma.session.output"
T = TypeVar("T")


class Records:
    """Nothing can be read or written before `load` is through, which needs the registry once."""

    def __init__(self, registry: Registry, origin: str, keys: Keys) -> None:
        self.registry, self.source, self.keys = registry, f"/{origin}/gateway", keys
        self._commands: Codec[SessionCommand] | None = None
        self._events: Codec[SessionEvent] | None = None
        self._output: Codec[OutputDelta] | None = None
        self._layout: Codec[LayoutChanged] | None = None

    async def load(self) -> None:
        """Fetch the schemas, waiting for the registry. Raises NotRegistered."""
        await self.registry.answers()
        self._commands = await asyncio.to_thread(self.registry.codec, COMMANDS, SessionCommand)
        self._events = await asyncio.to_thread(self.registry.codec, EVENTS, SessionEvent)
        self._output = await asyncio.to_thread(self.registry.codec, OUTPUT, OutputDelta)
        self._layout = await asyncio.to_thread(self.registry.codec, LAYOUT, LayoutChanged)

    @property
    def loaded(self) -> bool:
        return self._layout is not None

    def command(self, command: SessionCommand, trace: dict[str, str]) -> tuple[bytes, list[tuple[str, bytes]]]:
        """Value, signed, and headers of a command's record. Raises NothingSent before `load` is through."""
        meta, kind = command.meta, f"soma.session.{type(command.body).__name__}"
        about = headers(id=meta.id, kind=kind, source=self.source, subject=meta.aggregate_id, time=datetime.now(UTC), trace=trace)
        return self.keys.sign(COMMANDS, _loaded(self._commands), command), about

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
