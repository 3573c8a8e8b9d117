"""Several servers that start at the same time and stop one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol


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
        await together(*(start(service) for service in services))
        yield


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Does all of it at the same time. When one raises, or we are cancelled, the others are cancelled and have ended when this returns.

    Raises the first error. (`asyncio.gather` does not wait for the others, so that they would end in no order.)
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
