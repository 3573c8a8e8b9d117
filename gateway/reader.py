"""What GETs show: the read model's records of a session, folded by the one `evolve`."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple

from gateway.positions import Moment, Place, Position
from gateway.problems import NotFound, NotYet
from gateway.recent import Recent
from gateway.records import COMMANDS, Records
from ops.seal import Seals
from projections import session
from projections.applied import Applied
from projections.queries import Queries
from projections.session import Summary, View
from schemas.ids import partition_of
from schemas.types.session import SessionEvent

PAGE = 500
READ_SECONDS = 5.0
"""How long a read waits for the read model to come as far as it was asked to."""


class Stored(NamedTuple):
    """A record of the read model, and where it lies in the log."""

    place: Place
    event: SessionEvent


class Reader:
    """Every method raises ReadModelDown, and shows a tenant its own records only."""

    def __init__(self, queries: Queries, applied: Applied, records: Records, recent: Recent, seals: Seals) -> None:
        self.queries, self.applied, self.seals = queries, applied, seals
        self._records, self._recent = records, recent

    async def events(self, session_id: str, tenant: str, after: int = -1) -> AsyncIterator[Stored]:
        """The session's records behind an offset, in order."""
        while page := await self.page(session_id, tenant, after, PAGE):
            for stored in page:
                yield stored
            if len(page) < PAGE:
                return
            after = page[-1].place.offset

    async def page(self, session_id: str, tenant: str, after: int, limit: int) -> list[Stored]:
        """As many of them as `limit` says, if there are."""
        partition = partition_of(session_id)
        found = await self.queries.events_of(session_id, tenant, after, limit)
        return [Stored(Place(partition, offset), await self._records.event(value)) for offset, value in found]

    async def view(self, session_id: str, tenant: str) -> View | None:
        """The session as the read model has it, or newer. None where it is not started.

        A view that is remembered saves folding the history once more; the read model is asked all the same whether it knows the session.
        """
        summary = await self.queries.session(session_id, tenant)
        if summary is None:
            return None
        remembered = self._recent.view(session_id, tenant)
        if remembered and remembered.summary and _reached(remembered.summary) >= _reached(summary):
            return remembered
        return await self.view_until(session_id, tenant)

    async def view_until(self, session_id: str, tenant: str, last: int | None = None) -> View:
        """The session folded from its records, up to the one at offset `last`."""
        view = View()
        async for stored in self.events(session_id, tenant):
            if last is not None and stored.place.offset > last:
                break
            view = session.evolve(view, stored.event, str(stored.place))
        return view

    async def whole(self, view: View) -> View:
        """With its text opened, and with what was said in the session that it was forked from before its own messages. Raises KeysDown."""
        if view.summary is None:
            return view
        view = await self.seals.opened(view, view.summary.id)
        if view.summary is None or (origin := view.summary.origin) is None:
            return view
        earlier = await self.whole(await self.view_as_of(origin.session_id, view.summary.tenant, origin.version))
        return View(view.summary, (*earlier.messages, *view.messages))

    async def view_as_of(self, session_id: str, tenant: str, moment: Moment) -> View:
        """The session as it was. Raises NotFound where it was not started then, or has not come to that version yet."""
        view, past = View(), False
        async for stored in self.events(session_id, tenant):
            if past := _later(stored.event, moment):
                break
            view = session.evolve(view, stored.event, str(stored.place))
        if view.summary is None:
            raise NotFound(f"There was no session {session_id} at {_named(moment)}.")
        if isinstance(moment, int) and view.summary.version < moment and not past:
            raise NotFound(f"The session is at version {view.summary.version}: there is no version {moment} yet.")
        return view

    async def wait(self, position: Position, seconds: float, *, lenient: bool, commands: str = COMMANDS) -> None:
        """Until the command at `position` is applied. Raises NotYet when the time is over, unless an older state will do."""
        applied = await self.applied.command(commands, position.partition, position.offset, min(seconds, READ_SECONDS))
        if not (applied or lenient):
            raise NotYet(f"The command at {position} is not applied to the read model yet.")


def _reached(summary: Summary) -> tuple[int, int]:
    return summary.version, summary.command_offset


def _later(event: SessionEvent, moment: Moment) -> bool:
    """Whether a record came after the moment."""
    match moment:
        case Position():
            return event.meta.command.offset > moment.offset
        case datetime():
            return event.meta.time > moment
        case _:
            return event.meta.version is not None and event.meta.version > moment


def _named(moment: Moment) -> str:
    return f"version {moment}" if isinstance(moment, int) else moment.isoformat() if isinstance(moment, datetime) else str(moment)
