"""Writes: one command into the log, and what became of it out of the log."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec.structs import replace

from gateway import refusals
from gateway.at_work import AtWork
from gateway.identity import Home, command_id
from gateway.link import Link, NotAcknowledged
from gateway.positions import Place, Position
from gateway.problems import NothingSent, OutcomeUnknown
from gateway.reader import READ_SECONDS, Reader, Stored
from gateway.recent import settles
from gateway.records import COMMANDS, Records
from gateway.sealing import Sealing
from gateway.tail import FellBehind, Follower, Tail, Taken
from gateway.waits import Waits
from ops import metrics
from ops.seal import KeysDown
from projections.queries import ReadModelDown
from projections.session import EVENTS, Summary, View
from schemas import sealing
from schemas.types import common
from schemas.types.common import CommandMeta, Digest, Refused
from schemas.types.session import (
    AllotmentAsked,
    ApproveCall,
    CancelSession,
    CloseSession,
    DenyCall,
    PostMessage,
    ReplyRequested,
    SessionCommand,
    SettleCall,
    StartSession,
    ToolCallRequested,
)

Body = StartSession | PostMessage | CancelSession | CloseSession | ApproveCall | DenyCall | SettleCall


class Write(NamedTuple):
    """What a caller asks for. `wait` is how many seconds for the end of the turn that it starts; 0: only for Kafka's word.

    `subject` is whom a new session is about, if that is not the actor.
    """

    home: Home
    body: Body
    route: str
    key: str
    digest: Digest
    tenant: str
    actor: str
    policy: str
    wait: float
    trace: dict[str, str]
    expected_version: int | None = None
    subject: str | None = None


class Done(NamedTuple):
    """The session after the turn. `replayed`: this key had done it before."""

    view: View
    replayed: bool


class Accepted(NamedTuple):
    """The command is in the log for good, and will be decided; more is not known."""

    position: Position


class Room(NamedTuple):
    """In which a write has to find a place: among the writes that wait, and among its tenant's sessions at work if it begins a turn."""

    waits: Waits
    at_work: AtWork


class Writer:
    """Writes to sessions. Where they are `governed`, those that start here draw from their tenant's budget for their whole life."""

    def __init__(self, link: Link, tail: Tail, records: Records, reader: Reader, room: Room, sealing: Sealing, *, governed: bool) -> None:
        self._link, self._tail, self._records, self._reader = link, tail, records, reader
        self._waits, self._at_work = room
        self._sealing, self._governed = sealing, governed

    async def write(self, write: Write) -> Done | Accepted:
        """Raises the problem that a refusal is, NothingSent, OutcomeUnknown, TooMany, and as `sealed` does."""
        if not self._tail.caught_up:
            raise NothingSent("The gateway is starting, and reads what happened before: nothing was sent.")
        started, write = time.perf_counter(), await self.sealed(write)
        with self._waits.admitted(write.tenant), self._tail.follow(*write.home) as follower:
            position = await self.send(write)
            outcome = await self._outcome(write, position, follower) if write.wait else Accepted(position)
        if isinstance(outcome, Done) and isinstance(write.body, StartSession | PostMessage) and write.body.input is not None:
            metrics.turn_seconds.observe(time.perf_counter() - started)
        return outcome

    async def sealed(self, write: Write) -> Write:
        """As it goes on record: its text sealed, and the digest of its request keyed. Raises as `Sealing.key` does."""
        key = await self._sealing.key(write.body, write.home, write.tenant, write.subject or write.actor)
        if key is None:
            return write
        body = replace(write.body, seal=key.id) if isinstance(write.body, StartSession) else write.body
        return write._replace(body=sealing.sealed(body, key, write.home.id), digest=key.digest(write.digest))

    async def send(self, write: Write) -> Position:
        """Where Kafka has stored the command. Raises NothingSent, OutcomeUnknown, and TooMany where it would begin a turn too many."""
        meta = CommandMeta(
            id=command_id(write.tenant, write.route, write.key),
            aggregate_id=write.home.id,
            tenant=write.tenant,
            actor=write.actor,
            time=datetime.now(UTC),
            expected_version=write.expected_version,
            key_digest=write.digest,
            policy=write.policy,
        )
        body = replace(write.body, governed=self._governed) if isinstance(write.body, StartSession) else write.body
        value, headers = self._records.command(SessionCommand(meta=meta, body=body), write.trace)
        try:
            async with self._at_work.admitted(meta, body):
                offset = await self._link.send(COMMANDS, write.home.partition, write.home.id.encode(), value, headers)
        except NotAcknowledged:
            raise OutcomeUnknown(
                "Kafka did not acknowledge it in time. It may be done, now or later, or not at all.",
                outcome="unknown",
                idempotency_key=write.key,
                session_id=write.home.id,
            ) from None
        return Position(write.home.partition, offset)

    async def _outcome(self, write: Write, position: Position, follower: Follower) -> Done | Accepted:
        """What became of it, as far as it is known when the wait is over, Kafka is gone, or nothing can show the session."""
        try:
            async with self._waits.within(write.wait):
                return await self._answer(write, position, follower)
        except (TimeoutError, FellBehind, ReadModelDown, KeysDown):
            return Accepted(position)

    async def _answer(self, write: Write, position: Position, follower: Follower) -> Done:
        mine = await outcome_of(write, follower)
        last, body = mine[-1], mine[-1].event.body
        if isinstance(body, Refused):
            if body.code == "duplicate" and body.first:
                return await self._replay(write, body.first, last, follower)
            raise refusals.problem(body, await self._state(write, last))
        if _goes_on(mine):
            last = await _settled(follower)
        first = mine[0].event.meta.command
        view = await self._reader.whole(last.view or await self._view(write, last.place))
        return Done(view, replayed=(first.partition, first.offset) != position)

    async def _replay(self, write: Write, first: common.Position, refusal: Taken, follower: Follower) -> Done:
        """The answer that the first command got, from its records. Raises the problem that it was, and ReadModelDown."""
        await self.applied(refusal.place)
        stored = [each async for each in self._reader.events(write.home.id, write.tenant)]
        mine = [each for each in stored if each.event.meta.command == first]
        last = mine[-1]
        if isinstance(last.event.body, Refused):
            raise refusals.problem(last.event.body, await self._state(write, refusal))
        place = last.place
        if _goes_on(mine):
            ends = (each.place for each in stored if each.place > place and settles(each.event))
            place = next(ends, None) or (await _settled(follower)).place
        return Done(await self._reader.whole(await self._view(write, place)), replayed=True)

    async def _view(self, write: Write, place: Place) -> View:
        """The session after the record at `place`, from the read model. Raises ReadModelDown."""
        await self.applied(place)
        return await self._reader.view_until(write.home.id, write.tenant, place.offset)

    async def _state(self, write: Write, refusal: Taken) -> Summary | None:
        """The state that a refusal is about, if it can be had."""
        if refusal.view:
            return refusal.view.summary
        try:
            await self.applied(refusal.place)
            return await self._reader.queries.session(write.home.id, write.tenant)
        except ReadModelDown:
            return None

    async def applied(self, place: Place) -> None:
        """Returns once the read model holds the record there. Raises ReadModelDown."""
        if not await self._reader.applied.event(EVENTS, place.partition, place.offset, READ_SECONDS):
            raise ReadModelDown("The read model is behind.")


async def outcome_of(write: Write, follower: Follower) -> list[Taken]:
    """The records of the command, or of the one that was sent before it with the same key and the same body."""
    id, mine = command_id(write.tenant, write.route, write.key), list[Taken]()
    while not mine or len(mine) < mine[0].event.meta.count:
        taken = await follower.record()
        meta = taken.event.meta
        if (meta.command_id, meta.key_digest, meta.index) == (id, write.digest, len(mine)):
            mine.append(taken)
    return mine


async def _settled(follower: Follower) -> Taken:
    """The record that ends the turn. A call that needs an approval is not asked for one before the tenant's budget has answered."""
    while True:
        settled = settles((taken := await follower.record()).event)
        while settled and taken.event.meta.index < taken.event.meta.count - 1:
            taken = await follower.record()
        if settled and not isinstance(taken.event.body, AllotmentAsked):
            return taken


def _goes_on(records: Sequence[Taken | Stored]) -> bool:
    """Whether a command with these records began what is not over with them: a turn, or the call that a session is for."""
    last = records[-1].event
    begins = any(isinstance(record.event.body, ReplyRequested | ToolCallRequested | AllotmentAsked) for record in records)
    return begins and (isinstance(last.body, AllotmentAsked) or not settles(last))
