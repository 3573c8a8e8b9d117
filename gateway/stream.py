"""A session's events as they happen (Server-Sent Events, WHATWG HTML §9.2): the history, then what follows, none lost and none repeated."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import msgspec
from msgspec import Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from gateway.auth import Principal
from gateway.identity import Home
from gateway.positions import Place
from gateway.problems import NotFound, NotYet, TooMany
from gateway.reader import READ_SECONDS, Reader
from gateway.recent import ENDED
from gateway.records import Records
from gateway.tail import FellBehind, Follower, Tail
from gateway.watch import Watch
from ops import metrics
from ops.seal import KeysDown
from projections.session import EVENTS
from projections.text import rfc3339
from schemas.types.common import Sealed
from schemas.types.session import OutputDelta, ReplyFailed, ReplyRecorded, SessionEvent

log = logging.getLogger("soma.gateway")
STREAMS = 5_000
HEARTBEAT_SECONDS = 15
SEND_SECONDS = 30.0
"""A client that takes nothing for so long is let go; it comes back with Last-Event-ID."""
GRACE_SECONDS = 1.0
RETRY_MS = 1_000
"""What clients are told to wait before they come back."""


def document(event: SessionEvent, place: Place) -> dict[str, Any]:
    """An event as callers see it, ready for JSON. Sealed text shows which key it was sealed with."""
    meta, body = event.meta, event.body
    return {
        "place": str(place),
        "type": type(body).__name__,
        "id": meta.id,
        "session_id": meta.aggregate_id,
        "version": meta.version,
        "at": rfc3339(meta.time),
        "actor": meta.actor,
        "command_id": meta.command_id,
        "position": f"{meta.command.partition}:{meta.command.offset}",
        "data": {name: _plain(getattr(body, name)) for name in body.__struct_fields__},
    }


class Streams:
    """At most STREAMS at once."""

    def __init__(self, tail: Tail, reader: Reader, records: Records, watch: Watch) -> None:
        self._tail, self._reader, self._records, self._watch = tail, reader, records, watch
        self._open = 0

    async def answer(self, home: Home, caller: Principal, after: int) -> Response:
        """The stream of what lies behind offset `after`; it ends when the caller's credential does.

        204 where nothing ever will lie there, so that a browser does not come back (§9.2.3).
        Raises NotFound, NotYet, TooMany, ReadModelDown.
        """
        if self._open >= STREAMS:
            raise TooMany(f"{STREAMS} streams are open in this gateway.", {"Retry-After": "5"})
        summary = await self._reader.queries.session(home.id, caller.tenant)
        if summary is None:
            raise NotFound(f"There is no session {home.id}.")
        stopping = anyio.Event()
        stream = self._stream(home, caller, after, stopping)
        first = await anext(stream, None)  # what prevents a stream is raised before the answer begins
        if first is None:
            return Response(status_code=204)
        return EventSourceResponse(
            _resumed(first, stream),
            ping=HEARTBEAT_SECONDS,
            send_timeout=SEND_SECONDS,
            sep="\n",
            shutdown_event=stopping,
            shutdown_grace_period=GRACE_SECONDS,
        )

    async def _stream(self, home: Home, caller: Principal, after: int, stopping: anyio.Event) -> AsyncIterator[ServerSentEvent]:
        """Follow first, then read the history up to where following began, then go on from there."""
        stop: asyncio.Task[None] | None = None
        self._open += 1
        metrics.streams.set(self._open)
        try:
            with self._tail.follow(*home) as follower, self._watch.over(caller, stopping, home.id):
                if not await self._reader.applied.event(EVENTS, home.partition, follower.since - 1, READ_SECONDS):
                    raise NotYet("The read model is behind the log: the history cannot be shown yet.")
                writing = Writing()
                async for stored in self._reader.events(home.id, caller.tenant):
                    if stopping.is_set():
                        return
                    if stored.place.offset >= follower.since:
                        break
                    writing.settle(stored.event)
                    if stored.place.offset > after:
                        yield _record(await self._opened(stored.event), stored.place)
                    if isinstance(stored.event.body, ENDED):
                        return
                stop = asyncio.create_task(_close(follower, stopping))
                async for event in self._live(follower, caller.tenant, after, writing):
                    yield event
        finally:
            if stop:
                stop.cancel()
            self._open -= 1
            metrics.streams.set(self._open)

    async def _live(self, follower: Follower, tenant: str, after: int, writing: "Writing") -> AsyncIterator[ServerSentEvent]:
        pieces = [await self._piece(await self._records.output(value)) for value in follower.written]
        yield _delta(so_far) if (so_far := writing.so_far(pieces)) else ServerSentEvent(comment="waiting for what follows")
        while True:
            try:
                item = await follower.next()
            except FellBehind:
                return
            if isinstance(item, OutputDelta):
                if piece := writing.take(await self._piece(item)):
                    yield _delta(piece)
            elif item.event.meta.tenant == tenant and item.place.offset > after:
                writing.settle(item.event)
                yield _record(await self._opened(item.event), item.place)
                if isinstance(item.event.body, ENDED):
                    return

    async def _opened(self, event: SessionEvent) -> SessionEvent:
        return await self._reader.seals.opened(event, event.meta.aggregate_id)

    async def _piece(self, delta: OutputDelta) -> OutputDelta:
        return await self._reader.seals.opened(delta, delta.session_id)


class Piece(Struct, frozen=True):
    """A piece of a reply that is being written. With `reset` its text begins anew."""

    request: int
    attempt: str
    index: int
    text: str
    reset: bool


class Writing:
    """Puts the pieces of one attempt in order. An attempt whose beginning was missed is not shown: the recorded reply will be."""

    def __init__(self) -> None:
        self._settled, self._attempt, self._next = 0, "", 0

    def settle(self, event: SessionEvent) -> None:
        """Pieces of a reply that is recorded, or failed, are of no use any more."""
        if isinstance(event.body, ReplyRecorded | ReplyFailed):
            self._settled = max(self._settled, event.body.request)

    def take(self, delta: OutputDelta) -> Piece | None:
        """The piece to show, if it is one."""
        if delta.request <= self._settled or isinstance(delta.text, Sealed):
            return None
        if delta.index == 0:
            self._attempt, self._next = delta.attempt, 0
        if (delta.attempt, delta.index) != (self._attempt, self._next):
            return None
        self._next += 1
        return Piece(delta.request, delta.attempt, delta.index, delta.text, reset=delta.index == 0)

    def so_far(self, deltas: Iterable[OutputDelta]) -> Piece | None:
        """All that was written so far of the attempt that runs, as one piece."""
        pieces = list[Piece]()
        for delta in deltas:
            if piece := self.take(delta):
                pieces = [piece] if piece.reset else [*pieces, piece]
        if not pieces:
            return None
        last = pieces[-1]
        return Piece(last.request, last.attempt, last.index, "".join(piece.text for piece in pieces), reset=True)


async def _resumed(first: ServerSentEvent, rest: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    """Ends where text cannot be opened now: a client that comes back misses nothing of it."""
    yield ServerSentEvent(retry=RETRY_MS)
    yield first
    try:
        async for event in rest:
            yield event
    except KeysDown as error:
        log.warning("A stream ends before its time: %s", error)


async def _close(follower: Follower, stopping: anyio.Event) -> None:
    """A gateway that stops, or that must not let the caller go on, ends the stream, instead of having it cut off."""
    await stopping.wait()
    follower.close()


def _record(event: SessionEvent, place: Place) -> ServerSentEvent:
    return ServerSentEvent(_json(document(event, place)), event=type(event.body).__name__, id=str(place))


def _delta(piece: Piece) -> ServerSentEvent:
    """Without an id: a client that comes back is given the text so far instead."""
    return ServerSentEvent(_json(piece), event="output.delta")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _plain(value: Any) -> Any:
    match value:
        case Sealed():
            return {"sealed": value.key_id}
        case tuple():
            return [_plain(each) for each in value]
        case Struct():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return msgspec.to_builtins(value)
