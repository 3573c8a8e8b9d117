"""With which key a caller's words are sealed before they leave the gateway, so that no command and no dead letter holds them."""

from typing import Any

from gateway.identity import Home, Identity
from gateway.problems import NotFound, SubjectErased
from gateway.reader import Reader
from gateway.recent import Recent
from ops.seal import Erased, Seals
from projections.session import Summary
from schemas.sealing import Key, holds_text
from schemas.types.session import StartSession


class Sealing:
    """A session's text is sealed with the key of the subject that it began with; one that began without stays without."""

    def __init__(self, seals: Seals, identity: Identity, reader: Reader, recent: Recent) -> None:
        self._seals, self._identity, self._reader, self._recent = seals, identity, reader, recent

    async def key(self, body: Any, home: Home, tenant: str, subject: str) -> Key | None:
        """The key for a command; None where nothing of it is to be sealed.

        So a session of an erased subject can still be cancelled, without a word. Raises SubjectErased, NotFound, KeysDown, ReadModelDown.
        """
        if not self._seals.on or not (holds_text(body) or isinstance(body, StartSession)):
            return None
        starts = isinstance(body, StartSession)
        key_id = await self._seals.of(tenant, subject) if starts else (await self._summary(home, tenant)).seal
        try:
            return await self._seals.key(key_id) if key_id else None
        except Erased as error:
            raise SubjectErased(f"The key of session {home.id} was destroyed: nobody can read what was said in it.") from error

    async def _summary(self, home: Home, tenant: str) -> Summary:
        """From memory, else from a read model that holds all that this gateway has read."""
        remembered = self._recent.view(home.id, tenant)
        if remembered and remembered.summary:
            return remembered.summary
        found = await self._reader.queries.session(home.id, tenant)
        if found is None and await self._identity.shown(home.partition):
            found = await self._reader.queries.session(home.id, tenant)
        if found is None:
            raise NotFound(f"There is no session {home.id}.")
        return found
