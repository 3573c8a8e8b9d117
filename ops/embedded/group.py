"""Several servers that start at the same time and stop one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from ops.embedded.errors import EmbeddedError


class Service(Protocol):
    """A server, or a process of ours. `failed` returns never, and raises when it has ended for good without being asked to."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def failed(self) -> None: ...


@asynccontextmanager
async def running(services: Sequence[Service], report: Callable[[str], None]) -> AsyncIterator[None]:
    """In the block all of them serve; afterwards none runs, and the first of the list was stopped last.

    `report` gets a line when one is ready or stopped. Where one cannot start, the others are stopped and its error is raised.
    """

    async def start(service: Service) -> None:
        await service.start()
        report(f"{service.name} runs")

    async def stop(service: Service) -> None:
        await service.stop()
        report(f"{service.name} is stopped")

    async with AsyncExitStack() as stack:
        for service in services:
            stack.push_async_callback(stop, service)
        try:
            async with asyncio.TaskGroup() as starts:
                for service in services:
                    starts.create_task(start(service))
        except* EmbeddedError as errors:
            raise errors.exceptions[0] from None
        yield
