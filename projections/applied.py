"""Knows at once how far the read model has come: PostgreSQL's NOTIFY, sent with the commit of each projection."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Never, Self

import psycopg

from projections import database, isolation, store
from projections.nouns import events_of
from projections.reading import Chain

log = logging.getLogger("soma.read_model")
LOOK_EVERY = 5.0
"""Seconds after which the table is looked at anyway, so that a connection that is dead is noticed."""
RETRY_EVERY = 0.5


class Reached(NamedTuple):
    """In one partition: the next event, and the last applied command, which is one of the epoch."""

    next_offset: int
    command_offset: int
    epoch: str


class Applied:
    """Listens while it is entered, over a connection of its own; while the database is down, what is waited for times out.

    `epochs` are those of commands topics, as far as they are known: offsets of another epoch say nothing about this one's (rule 5).
    """

    def __init__(self, url: str) -> None:
        self._url = database.plain(url)
        self._reached: dict[Chain, Reached] = {}
        self._moved = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None
        self.epochs: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._listening:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def command(self, topic: str, partition: int, offset: int, timeout: float) -> bool:
        """Whether the command at this place, of the topic's present epoch, is applied, at the latest after `timeout` seconds."""

        def passed(reached: Reached) -> bool:
            return reached.epoch == self.epochs.get(topic, reached.epoch) and reached.command_offset >= offset

        return await self._until(Chain(events_of(topic), partition), passed, timeout)

    async def event(self, topic: str, partition: int, offset: int, timeout: float) -> bool:
        """Whether the record at this place of an events topic is applied, at the latest after `timeout` seconds."""
        return await self._until(Chain(topic, partition), lambda reached: reached.next_offset > offset, timeout)

    async def _until(self, chain: Chain, enough: Callable[[Reached], bool], timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: chain in self._reached and enough(self._reached[chain]))
                return True
        except TimeoutError:
            return False

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except psycopg.Error as error:
                log.warning("the read model cannot be listened to, trying again: %s", error)
                await asyncio.sleep(RETRY_EVERY)

    async def _follow(self) -> Never:
        """One connection's life. It listens before it looks, so that nothing falls between."""
        arguments = database.arguments(options=isolation.AS_READER)
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True, **arguments) as connection:
            await connection.execute(f"LISTEN {store.CHANNEL}")
            while True:
                await self._look(connection)
                async for notice in connection.notifies(timeout=LOOK_EVERY):
                    chain, reached = _told(notice.payload)
                    if reached.next_offset < self._next(chain):  # an old notice, or the read model was begun anew: the table knows
                        break
                    await self._note({chain: reached})

    async def _look(self, connection: psycopg.AsyncConnection[Any]) -> None:
        found = await connection.execute("SELECT topic, partition, next_offset, command_offset, epoch FROM positions")
        await self._note({Chain(topic, partition): Reached(*reached) for topic, partition, *reached in await found.fetchall()})

    async def _note(self, reached: dict[Chain, Reached]) -> None:
        async with self._moved:
            self._reached.update(reached)
            self._moved.notify_all()

    def _next(self, chain: Chain) -> int:
        return self._reached[chain].next_offset if chain in self._reached else 0


def _told(payload: str) -> tuple[Chain, Reached]:
    """What `store.announce` wrote."""
    topic, partition, next_offset, command_offset, epoch = payload.split(":", 4)
    return Chain(topic, int(partition)), Reached(int(next_offset), int(command_offset), epoch)
