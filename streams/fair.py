"""Whose turn it is: many calls at a time, tenants and their sessions in turn, and no more of one tool than it bears."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class _Waiter(NamedTuple):
    tool: str
    bound: int
    turn: "asyncio.Future[None]"


class Fair:
    """At most `limit` at once. Round-robin over tenants, and within each over its sessions; a tool at its bound is passed over."""

    def __init__(self, limit: int) -> None:
        self._limit, self._inside = limit, 0
        self._tools: Counter[str] = Counter()
        self._tenants: OrderedDict[str, OrderedDict[str, deque[_Waiter]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(len(waiters) for sessions in self._tenants.values() for waiters in sessions.values())

    @asynccontextmanager
    async def turn(self, tenant: str, session: str, tool: str, bound: int) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while this is entered. `bound` is how many of this tenant's tool may run at once."""
        key = f"{tenant}\x1f{tool}"
        waiter = _Waiter(key, bound, asyncio.get_running_loop().create_future())
        self._tenants.setdefault(tenant, OrderedDict()).setdefault(session, deque()).append(waiter)
        self._admit()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self._leave(key)
            raise
        try:
            yield
        finally:
            self._leave(key)

    def _leave(self, tool: str) -> None:
        self._inside -= 1
        self._tools[tool] -= 1
        self._admit()

    def _admit(self) -> None:
        while self._inside < self._limit and (waiter := self._next()):
            self._inside += 1
            self._tools[waiter.tool] += 1
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        """The next one that may go. Its tenant, and its session within that, go to the end of the line."""
        for tenant, sessions in list(self._tenants.items()):
            for session, waiters in list(sessions.items()):
                while waiters and waiters[0].turn.done():  # cancelled while it waited
                    waiters.popleft()
                if waiters and self._tools[waiters[0].tool] >= waiters[0].bound:
                    continue
                found = waiters.popleft() if waiters else None
                self._move(tenant, session)
                if found:
                    return found
        return None

    def _move(self, tenant: str, session: str) -> None:
        sessions = self._tenants[tenant]
        if sessions[session]:
            sessions.move_to_end(session)
        else:
            del sessions[session]
        if sessions:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
