"""How many sessions of a tenant are at work at once, whichever gateway began their turns: the record says it.

A session is at work while a turn of it is under way, save while a person is asked to approve a call. The tail tells of every event as it
comes; what began before is in the read model, which is asked once a tenant, when a turn of it is first to begin here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from gateway.problems import TooMany
from gateway.reader import READ_SECONDS, Reader
from gateway.recent import SETTLED
from gateway.tail import Tail
from ops import metrics
from projections.queries import ReadModelDown
from projections.session import EVENTS
from schemas.types.common import CommandMeta
from schemas.types.session import (
    AllotmentAsked,
    AllotmentReceived,
    PostMessage,
    ReplyRequested,
    SessionEvent,
    StartSession,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
)

log = logging.getLogger("soma.gateway")
FIRST_SECONDS = 1.0
"""How long the first writes of a tenant wait for the read model: where it is away, they go on, and what began before is counted later."""
LOOK_AGAIN_SECONDS = 30.0


def begins(body: object) -> bool:
    """Whether a command asks for a turn, or for a call: everything else ends one, or lets one go on."""
    return isinstance(body, PostMessage) or (isinstance(body, StartSession) and (body.input is not None or body.call is not None))


class Tally:
    """One tenant's. `busy` are the sessions at work as far as the record is read, `sent` the commands to begin a turn that it does not
    show yet.
    """

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.sent: set[str] = set()
        self._asked: dict[str, set[str]] = {}
        """The calls that a person is asked about, of the sessions that wait for one."""
        self._told: set[str] | None = None
        """Of whom the record told something since the read model began to be asked."""

    @property
    def count(self) -> int:
        return len(self.busy) + len(self.sent)

    def take(self, event: SessionEvent) -> None:
        """A valid record of the tenant, in the order of its partition."""
        if event.meta.index == event.meta.count - 1:
            self.sent.discard(event.meta.command_id)
        if event.meta.version is None:
            return
        id = event.meta.aggregate_id
        if self._told is not None:
            self._told.add(id)
        match event.body:
            case ReplyRequested():
                self.busy.add(id)
            case AllotmentAsked(deadline=datetime()):
                self.busy.add(id)
            case AllotmentReceived(approval=True):
                self.busy.discard(id)
            case ToolCallRequested(call=call, approval=approval):
                self._wished(id, call, approval=approval)
            case ToolCallApproved(call=call) | ToolCallFinished(call=call):
                self._decided(id, call, approved=isinstance(event.body, ToolCallApproved))
            case body if isinstance(body, SETTLED):
                self.busy.discard(id)
                self._asked.pop(id, None)

    def look(self) -> None:
        """The read model is about to be asked: from here on the record knows better than its answer."""
        self._told = set()

    def know(self, at_work: list[str]) -> None:
        """Its answer: the tenant's sessions at work, no earlier than the record was read when `look` was called.

        One of which the record told nothing since is as the answer says, or the record still tells it.
        """
        self.busy.update(id for id in at_work if id not in (self._told or ()))
        self._told = None

    def _wished(self, id: str, call: str, *, approval: bool) -> None:
        if approval:
            self._asked.setdefault(id, set()).add(call)
            self.busy.discard(id)
        elif id not in self._asked:
            self.busy.add(id)

    def _decided(self, id: str, call: str, *, approved: bool) -> None:
        """A call that was asked about before the tenant was looked at is not in `_asked`: the first approval puts its session to work."""
        asked = self._asked.get(id, set())
        if not asked and not approved:
            return
        asked.discard(call)
        if not asked:
            self._asked.pop(id, None)
            self.busy.add(id)


class Looking(NamedTuple):
    """The read model is being asked about a tenant, whose writes wait for that until a time of the loop's clock."""

    task: asyncio.Task[None]
    until: float


class AtWork:
    """At most `limit` sessions of a tenant at work. Gateways that begin turns at the same moment do not see each other's yet:
    there can be more by what is on its way into the log and back.
    """

    def __init__(self, tail: Tail, reader: Reader, limit: int) -> None:
        self._tail, self._reader, self._limit = tail, reader, limit
        self._tallies: dict[str, Tally] = {}
        self._looking: dict[str, Looking] = {}
        tail.when_taken.append(self._take)
        metrics.at_work.set_function(lambda: sum(len(tally.busy) for tally in self._tallies.values()))

    @asynccontextmanager
    async def admitted(self, command: CommandMeta, body: object) -> AsyncIterator[None]:
        """While the command is sent. One that begins a turn counts until the record shows it. Raises TooMany, of such a one alone.

        A session that is at work already has its place: who repeats a write that began a turn hears of that one.
        """
        if not begins(body):
            yield
            return
        tally = await self._tally(command.tenant)
        if tally.count >= self._limit and command.aggregate_id not in tally.busy and command.id not in tally.sent:
            raise TooMany(f"{self._limit} sessions of this tenant are at work: nothing was sent.", {"Retry-After": "1"})
        tally.sent.add(command.id)
        try:
            yield
        except BaseException:
            tally.sent.discard(command.id)
            raise

    async def close(self) -> None:
        """Ask no more."""
        tasks = [looking.task for looking in self._looking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, event: SessionEvent) -> None:
        if tally := self._tallies.get(event.meta.tenant):
            tally.take(event)

    async def _tally(self, tenant: str) -> Tally:
        now = asyncio.get_running_loop().time()
        if tenant not in self._tallies:
            self._tallies[tenant] = Tally()
            task = asyncio.create_task(self._look(tenant, self._tallies[tenant]))
            self._looking[tenant] = Looking(task, now + FIRST_SECONDS)
        if (looking := self._looking.get(tenant)) and now < looking.until:
            await asyncio.wait({looking.task}, timeout=looking.until - now)
        return self._tallies[tenant]

    async def _look(self, tenant: str, tally: Tally) -> None:
        """Ask the read model, until it answers."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ReadModelDown),
            wait=wait_exponential_jitter(multiplier=0.5, max=LOOK_AGAIN_SECONDS),
            before_sleep=before_sleep_log(log, logging.WARNING),
        )
        await retrying(self._ask, tenant, tally)
        del self._looking[tenant]

    async def _ask(self, tenant: str, tally: Tally) -> None:
        """Raises ReadModelDown."""
        tally.look()
        for partition, reading in list(self._tail.readings.items()):
            last = reading.head.next_offset - 1
            if last >= 0 and not await self._reader.applied.event(EVENTS, partition, last, READ_SECONDS):
                raise ReadModelDown("The read model is behind: how many sessions are at work is not known yet.")
        tally.know(await self._reader.queries.at_work(tenant))
