"""One turn of a session, from its caller's message to its end: told as it happens, or read again.

Its text is that of all its replies, a blank line between: what a model says before it calls a tool is part of the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway import refusals
from gateway.identity import Home
from gateway.positions import Position
from gateway.problems import Declined, NotFound, NothingSent, Rewritten, Unfinished
from gateway.reader import READ_SECONDS, Reader, Stored
from gateway.recent import ENDED, SETTLED
from gateway.stream import Piece, Writing
from gateway.tail import FellBehind, Follower, Tail, Taken
from gateway.waits import Waits
from gateway.writer import Write, Writer, outcome_of
from ops.seal import KeysDown
from projections.session import EVENTS, Summary, View, evolve
from schemas.types import common
from schemas.types.common import Refused, Sealed
from schemas.types.session import (
    MessagePosted,
    OutputDelta,
    ReplyFailed,
    ReplyRecorded,
    SessionEvent,
    SessionStarted,
    TurnStopped,
)

TURN_SECONDS = 600.0
"""How long a caller is kept waiting: a turn that takes longer goes on without one."""
BETWEEN = "\n\n"
T = TypeVar("T")


class Failure(NamedTuple):
    """Why a turn ended without the model's last word."""

    code: str
    reason: str


class Turn(Struct, frozen=True):
    """`command` began it, `position` is that of the last one so far; `happened` is the type of its last event, `last_at` its time.

    Tokens are summed over its model calls.
    """

    session_id: str
    command: Position
    position: Position
    began_at: datetime
    last_at: datetime
    happened: str = ""
    texts: tuple[str, ...] = ()
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    failure: Failure | None = None
    over: bool = False

    @property
    def text(self) -> str:
        return BETWEEN.join(self.texts)


class Conversation(NamedTuple):
    """A session that a caller goes on with, and how it was started."""

    summary: Summary
    started: SessionStarted


class Turns:
    """Begins turns, and reads them."""

    def __init__(self, writer: Writer, tail: Tail, reader: Reader, waits: Waits) -> None:
        self._writer, self._tail, self._reader, self._waits = writer, tail, reader, waits

    async def run(self, write: Write) -> AsyncIterator[Turn | str]:
        """The turn after each of its events, and its text piece by piece, until it is over.

        Raises as `Writer.sealed` does, and the problem that a refusal is, NothingSent, OutcomeUnknown, TooMany, Unfinished,
        Rewritten, ReadModelDown.
        """
        if not self._tail.caught_up:
            raise NothingSent("The gateway is starting, and reads what happened before: nothing was sent.")
        turn, writing, showing, write = None, Writing(), Showing(write.home.id), await self._writer.sealed(write)
        with self._waits.admitted(write.tenant), self._tail.follow(*write.home) as follower:
            await self._writer.send(write)
            async for item in self._records(write, follower):
                if isinstance(item, OutputDelta):
                    delta = await self._opened(item, write)
                    if turn and (piece := writing.take(delta)) and (text := showing.written(turn, piece)):
                        yield text
                    continue
                turn = after(turn, await self._opened(item.event, write))
                writing.settle(item.event)
                if isinstance(item.event.body, ReplyRecorded) and (text := showing.recorded(turn)):
                    yield text
                yield turn
                if turn.over:
                    return

    async def _opened(self, said: T, write: Write) -> T:
        """Of what was sent and is on record nobody may say that nothing was sent. Raises Unfinished."""
        try:
            return await self._reader.seals.opened(said, write.home.id)
        except KeysDown as error:
            raise Unfinished(f"It is recorded, and its text cannot be shown now. {error}", session_id=write.home.id) from error

    async def read(self, home: Home, tenant: str, position: Position) -> Turn:
        """The turn that the command there began, as far as this gateway knows it. Raises NotFound, NotYet, ReadModelDown."""
        await self._current(home, position)
        turn = None
        async for stored in self._reader.events(home.id, tenant):
            if turn or (_began(stored.event) and _position(stored.event.meta.command) == position):
                turn = after(turn, await self._reader.seals.opened(stored.event, home.id))
                if turn.over:
                    break
        if turn is None:
            raise NotFound(f"No turn of session {home.id} was begun at {position}.")
        return turn

    async def conversation(self, home: Home, tenant: str, newest: Position) -> Conversation:
        """The session, whose newest turn must be the one that the command there began. Raises Declined, NotFound, NotYet, ReadModelDown."""
        await self._current(home, newest)
        view, started, last = View(), None, None
        async for stored in self._reader.events(home.id, tenant):
            view = evolve(view, stored.event, str(stored.place))
            started = stored.event.body if isinstance(stored.event.body, SessionStarted) else started
            last = _position(stored.event.meta.command) if isinstance(stored.event.body, MessagePosted) else last
        if view.summary is None or started is None or last is None:
            raise NotFound(f"There is no session {home.id}.")
        if last != newest:
            raise Declined("The conversation went on after this response: go on from its newest one.")
        return Conversation(view.summary, await self._reader.seals.opened(started, home.id))

    async def _current(self, home: Home, position: Position) -> None:
        """Until the read model holds the command there, and all that this gateway may have shown of the session. Raises NotYet."""
        await self._reader.wait(position, READ_SECONDS, lenient=False)
        if reading := self._tail.readings.get(home.partition):
            await self._reader.applied.event(EVENTS, home.partition, reading.head.next_offset - 1, READ_SECONDS)

    async def _records(self, write: Write, follower: Follower) -> AsyncIterator[Taken | Stored | OutputDelta]:
        """The command's records, and what follows them. Of a repetition: those of the first, from the read model where they are past."""
        deadline = asyncio.get_running_loop().time() + TURN_SECONDS
        mine: list[Taken] = await self._within(deadline, write, outcome_of(write, follower))
        last, body = mine[-1].place, mine[-1].event.body
        if isinstance(body, Refused):
            if body.code != "duplicate" or body.first is None:
                raise refusals.problem(body, None)
            await self._writer.applied(last)
            async for stored in self._of(write, body.first):
                yield stored
        else:
            for taken in mine:
                yield taken
        while True:
            item = await self._within(deadline, write, follower.next())
            if isinstance(item, OutputDelta) or item.place > last:
                yield item

    async def _of(self, write: Write, first: common.Position) -> AsyncIterator[Stored]:
        """What is stored of the session since this command. Raises the problem that it was."""
        begun = False
        async for stored in self._reader.events(write.home.id, write.tenant):
            begun = begun or stored.event.meta.command == first
            if begun and isinstance(stored.event.body, Refused) and stored.event.meta.command == first:
                raise refusals.problem(stored.event.body, None)
            if begun:
                yield stored

    async def _within(self, deadline: float, write: Write, awaited: Awaitable[T]) -> T:
        """Raises Unfinished."""
        try:
            async with self._waits.within(max(deadline - asyncio.get_running_loop().time(), 0)):
                return await awaited
        except (TimeoutError, FellBehind):
            detail = "It is recorded, and this gateway cannot wait longer for its end."
            raise Unfinished(detail, session_id=write.home.id) from None


class Showing:
    """What of a turn's text was handed out, which nothing can take back."""

    def __init__(self, session_id: str) -> None:
        self._session_id, self._sent, self._attempt = session_id, "", ""

    def written(self, turn: Turn, piece: Piece) -> str:
        """The text that a piece adds. Of an attempt that begins anew: what lies beyond the text of the former one, if it is the same."""
        self._attempt = piece.text if piece.reset else self._attempt + piece.text
        return self._beyond(BETWEEN.join(filter(None, (*turn.texts, self._attempt)))) or ""

    def recorded(self, turn: Turn) -> str:
        """The text that a recorded reply adds. Raises Rewritten where it is another one than was handed out."""
        self._attempt, rest = "", self._beyond(turn.text)
        if rest is None:
            raise Rewritten("The model was asked again, and answered otherwise than it had begun.", session_id=self._session_id)
        return rest

    def _beyond(self, text: str) -> str | None:
        if not text.startswith(self._sent):
            return None
        rest, self._sent = text[len(self._sent) :], text
        return rest


def after(turn: Turn | None, event: SessionEvent) -> Turn:
    """The turn after an event of its session; before its first one it is None."""
    meta, body = event.meta, event.body
    position = _position(meta.command)
    turn = turn or Turn(meta.aggregate_id, position, position, meta.time, meta.time)
    over = isinstance(body, SETTLED) and meta.index == meta.count - 1
    turn = replace(turn, position=position, happened=type(body).__name__, last_at=meta.time, over=over)
    match body:
        case ReplyRecorded(content=Sealed()):
            return replace(turn, failure=Failure("sealed", "The reply is sealed with a key that is not to be had here."))
        case ReplyRecorded(content=str() as content):
            return _answered(turn, body, content)
        case ReplyFailed() | TurnStopped():
            return replace(turn, failure=Failure(body.code, "What happened is sealed." if isinstance(body.reason, Sealed) else body.reason))
        case _ if isinstance(body, ENDED):
            return replace(turn, failure=Failure("ended", "The session was ended before the model had answered."))
        case _:
            return turn


def _answered(turn: Turn, reply: ReplyRecorded, content: str) -> Turn:
    usage = reply.usage
    return replace(
        turn,
        texts=(*turn.texts, content) if content else turn.texts,
        finish_reason=reply.finish_reason,
        input_tokens=turn.input_tokens + (usage.input_tokens if usage else 0),
        output_tokens=turn.output_tokens + (usage.output_tokens if usage else 0),
    )


def _began(event: SessionEvent) -> bool:
    return isinstance(event.body, SessionStarted | MessagePosted)


def _position(position: common.Position) -> Position:
    return Position(position.partition, position.offset)
