"""What is remembered of the sessions that pass by, so that a write can be answered without the read model. All of it can be lost."""

from cachetools import LRUCache
from msgspec import Struct

from projections import session
from projections.session import View
from schemas.types.session import (
    AllotmentReceived,
    ReplyFailed,
    ReplyRecorded,
    SessionCancelled,
    SessionClosed,
    SessionEvent,
    SessionExpired,
    SessionStarted,
    ToolCallRequested,
    TurnStopped,
)

VIEW_BYTES = 64 << 20
OUTPUT_BYTES = 16 << 20
OVERHEAD = 2_048
"""Bytes that a session takes besides its records, generously."""

ENDED = SessionCancelled | SessionClosed | SessionExpired
SETTLED = ReplyRecorded | ReplyFailed | TurnStopped | ENDED
"""What ends a turn where it is the last record of its command: afterwards the session is idle or ended."""


def settles(event: SessionEvent) -> bool:
    """Whether a turn is over with this record, or goes on only once a person has approved a call."""
    if isinstance(event.body, ToolCallRequested | AllotmentReceived) and event.body.approval:
        return True
    return isinstance(event.body, SETTLED) and event.meta.index == event.meta.count - 1


class _Seen(Struct, frozen=True):
    view: View
    size: int


class _Pieces(Struct, frozen=True):
    values: tuple[bytes, ...]
    size: int


class Recent:
    """Views of sessions whose first event was seen here, and what was written so far of replies; each bounded by bytes."""

    def __init__(self) -> None:
        self._views: LRUCache[str, _Seen] = LRUCache(VIEW_BYTES, getsizeof=lambda seen: seen.size)
        self._output: LRUCache[str, _Pieces] = LRUCache(OUTPUT_BYTES, getsizeof=lambda pieces: pieces.size)

    def take(self, event: SessionEvent, place: str, size: int) -> View | None:
        """The session's view after a valid record; None where its beginning was not seen, or is forgotten. Raises ChainBroken."""
        id = event.meta.aggregate_id
        if isinstance(event.body, SETTLED):
            self._output.pop(id, None)
        seen = _Seen(View(), OVERHEAD) if isinstance(event.body, SessionStarted) else self._views.get(id)
        if seen is None:
            return None
        after = _Seen(session.evolve(seen.view, event, place), seen.size + size)
        if after.size <= VIEW_BYTES:
            self._views[id] = after
        else:
            del self._views[id]
        return after.view

    def take_output(self, session_id: str, value: bytes) -> None:
        """Keep a piece of a reply that is being written, as it came."""
        before = self._output.get(session_id) or _Pieces((), OVERHEAD)
        after = _Pieces((*before.values, value), before.size + len(value) + 64)
        if after.size <= OUTPUT_BYTES:
            self._output[session_id] = after

    def view(self, session_id: str, tenant: str) -> View | None:
        """The tenant's session as of the last record that was read here, if it is remembered."""
        seen = self._views.get(session_id)
        return seen.view if seen and seen.view.summary and seen.view.summary.tenant == tenant else None

    def output(self, session_id: str) -> tuple[bytes, ...]:
        """The pieces of the session's replies that no record has superseded yet."""
        pieces = self._output.get(session_id)
        return pieces.values if pieces else ()
