"""Ends streams whose caller may have lost sight of the session: a relation was taken back, from it or from a group."""

import asyncio
from typing import Never

from gateway.relations import Relations
from gateway.watch import Watch
from projections.relation import Known, Relation
from schemas.types.relation import Unrelated

WAITING = 10_000
"""So many relations that were taken back may wait to be looked at; more of them end every stream at once."""


class Unshared:
    """A stream that is ended too much costs little: its client comes back to where it was, and is asked about anew."""

    def __init__(self, relations: Relations, watch: Watch) -> None:
        self._relations, self._watch = relations, watch
        self._taken_back = asyncio.Queue[Known](WAITING)
        relations.given.catalogue.when_known.append(self._note)

    async def run(self) -> Never:
        """End streams until cancelled: each once a new one would be refused, so that none begins meanwhile and stays."""
        while True:
            known = await self._taken_back.get()
            object, position = known.state.object, known.position
            taken = Relation(known.tenant, position.partition, object, known.last.relation, known.last.subject, held=False)
            await self._relations.written(taken, position.partition, position.offset)
            kind, _, id = object.partition(":")
            if kind in ("session", "group", "tenant"):
                self._watch.end(known.tenant, id if kind == "session" else None)

    def _note(self, known: Known) -> None:
        if not isinstance(known.last, Unrelated) or not self._relations.given.catalogue.ready or not self._relations.on:
            return
        if self._taken_back.full():
            self._watch.end(known.tenant, None)
        else:
            self._taken_back.put_nowait(known)
