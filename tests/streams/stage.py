"""A stage for model calls: one session that waits, one orchestrator, and the topic on which its outcome arrives."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from commands.session import ModelCall, result_id
from ops.models import Model
from ops.seal import Seals
from schemas.types.session import OutputDelta, SessionCommand
from streams.aggregate import Outline
from streams.orchestrator import OUTPUT, Orchestrator
from streams.tool import TOOLS, Tools
from tests.streams.conftest import Bench, start


class Stage:
    """A session that waits for a model's answer, and the orchestrator that is to get it."""

    def __init__(self, bench: Bench, *models: Model) -> None:
        self.bench, self.id = bench, bench.new_id()
        output = bench.services.registry.codec(OUTPUT, OutputDelta)
        self.orchestrator = Orchestrator(
            {model.name: model for model in models}, output, Tools(TOOLS, bench.services.registry, {}, "test"), Seals()
        )
        self.orchestrator.start(bench.services)

    async def begin(self, model: str, seconds: float = 20.0, input: str = "hello") -> ModelCall:
        await self.bench.send(start(input), self.id)
        async with self.bench.running() as processor:
            await self.bench.until(processor, lambda: self.id in self.bench.noted.wanted)
            self.outline: Outline[Any] = processor.partition.peek(self.id)
        call = ModelCall(model, 3, datetime.now(UTC) + timedelta(seconds=seconds))
        self.orchestrator.want(self.bench.home, self.id, call, self.outline, {})
        return call

    async def outcome(self) -> SessionCommand:
        """The command that ends the call."""
        async with asyncio.timeout(60):
            while len(records := self.bench.commands()) < 2:
                await asyncio.sleep(0.02)
        command: SessionCommand = self.bench.services.commands.decode(records[1].value)
        assert command.meta.id == result_id(self.id, 3)
        return command

    def deltas(self) -> list[OutputDelta]:
        services, home = self.bench.services, self.bench.home
        codec = services.registry.codec(OUTPUT, OutputDelta)
        return [codec.decode(record.value) for record in services.log.read(OUTPUT, home, 0, services.log.bounds(OUTPUT, home)[1])]
