"""Which ids a write gets: made from its Idempotency-Key, so that any gateway makes the same ones again, or new (rule 3)."""

import random
import secrets
import uuid
from datetime import UTC, datetime
from typing import NamedTuple, Self

from gateway.layout import Layout
from gateway.problems import Malformed, NotFound, NothingSent
from gateway.reader import READ_SECONDS, Reader
from gateway.recent import Recent
from gateway.tail import Tail
from projections.queries import ReadModelDown
from projections.session import EVENTS
from schemas.ids import keyed_id, new_id, partition_of

START = "POST /v1/sessions"
GIVEN = "session:"
"""Begins a key that was made here for a caller without one: the id of the new session follows."""


class Home(NamedTuple):
    """A session's id in its one written form (another form would name another session), and its partition."""

    id: str
    partition: int

    @classmethod
    def parse(cls, session_id: str) -> Self:
        """Raises NotFound."""
        try:
            id = str(uuid.UUID(session_id))
        except ValueError:
            raise NotFound(f"There is no session {session_id[:100]!r}: an id is a UUID.") from None
        return cls(id, partition_of(id))


class Identity:
    """Ids for writes, and the partitions that they name."""

    def __init__(self, tail: Tail, layout: Layout, reader: Reader, recent: Recent) -> None:
        self._tail, self._layout, self._reader, self._recent = tail, layout, reader, recent

    def key(self) -> str:
        """A key for a caller who sent none, by which the outcome can be asked for all the same."""
        return secrets.token_hex(16)

    def start_key(self) -> str:
        """The same for a new session: it carries the id, which is none made from a key. Raises NothingSent."""
        if not self._tail.usable:
            raise NothingSent("The gateway does not read any partition yet: nothing was sent.")
        return GIVEN + new_id(random.randrange(self._tail.usable))  # noqa: S311 (spreads load, guards nothing)

    async def session(self, tenant: str, key: str, route: str = START) -> Home:
        """The session that this key starts at this route, or has started. Raises NothingSent, Malformed."""
        if key.startswith(GIVEN):
            return self._given(key)
        now = datetime.now(UTC)
        for former in self._layout.former(now):
            id = keyed_id(tenant, route, key, former)
            if await self._started(id, tenant):
                return self.home(id)
        return self.home(keyed_id(tenant, route, key, self._layout.in_force(now) or self._tail.usable or 1))

    def _given(self, key: str) -> Home:
        try:
            return self.home(key.removeprefix(GIVEN))
        except NotFound:
            raise Malformed(f"A key that begins with {GIVEN!r} is one that a gateway gave, and goes on with a session's id.") from None

    async def _started(self, id: str, tenant: str) -> bool:
        """Whether the session is known; asked of a read model that holds all that this gateway has read."""
        if self._recent.view(id, tenant):
            return True
        try:
            if await self.shown(self.home(id).partition):
                return await self._reader.queries.session(id, tenant) is not None
        except ReadModelDown:
            pass
        raise NothingSent(
            "The number of partitions was raised within 24 hours, and the read model, which knows the sessions from before, "
            "does not answer: nothing was sent."
        )

    async def shown(self, partition: int) -> bool:
        """Whether the read model holds all that this gateway has read of the partition, at the latest after READ_SECONDS."""
        return await self._reader.applied.event(EVENTS, partition, self._tail.readings[partition].head.next_offset - 1, READ_SECONDS)

    def home(self, session_id: str) -> Home:
        """The session that a caller named, in a partition that is read here. Raises NotFound; NothingSent where it is not read yet."""
        home = Home.parse(session_id)
        if home.partition < self._tail.usable:
            return home
        if home.partition < self._layout.largest or not self._tail.usable:
            raise NothingSent(f"This gateway does not read partition {home.partition} yet: nothing was sent.")
        raise NotFound(f"There is no session {session_id}.")


def command_id(tenant: str, route: str, key: str) -> str:
    """The id of a command, the same for the same key. Its partition means nothing: a command lies where its session does."""
    return keyed_id(tenant, f"command {route}", key, 1)
