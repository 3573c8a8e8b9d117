"""API keys at the gate: who shows one, and whether it is good now, everywhere within a second of what was recorded of it."""

import asyncio
import hmac
import logging
import time
from datetime import UTC, datetime
from typing import NamedTuple

from cachetools import TTLCache

from gateway.ask import Ask
from gateway.auth import Principal
from gateway.named import Named
from gateway.problems import CannotVerify, Problem, Unauthenticated
from gateway.secret import PREFIX, Pepper, key_of
from ops.witness import Witness
from projections.access import NOTED, Key, Secret
from schemas.types.access import NoteUse

log = logging.getLogger("soma.gateway")
FRESH_SECONDS = 0.7
"""How old the proof may be that no revocation was missed. With the time in which streams are looked at it makes less than a second."""
PATIENCE_SECONDS = 0.5
NOTE_SECONDS = 60
"""The use of a key is told at most so often, be it that nobody takes it down."""
NOTE_WAIT = 5.0
NOBODY = Secret(0, bytes(32), "")
"""Compared with where there is no such key, so that this takes as long."""


class Shown(NamedTuple):
    """A key, and the one of its secrets by which it was shown."""

    key: Key
    secret: Secret


class Keys:
    """The verifier of API keys. Without a pepper it can tell of none whether it is good."""

    def __init__(self, access: Named[Key], witness: Witness, pepper: bytes | None) -> None:
        self._access, self.witness, self.pepper = access, witness, Pepper(pepper) if pepper else None
        self._known: dict[str, Key] = {}
        self._told: TTLCache[str, bool] = TTLCache(10_000, NOTE_SECONDS)
        self._telling = set[asyncio.Task[None]]()
        access.catalogue.when_known.append(self._learn)

    def knows(self, credential: str) -> bool:
        """Whether it begins as the secret of a key does."""
        return credential.startswith(PREFIX)

    async def principal(self, credential: str) -> Principal:
        """Whom the secret proves. Raises Unauthenticated, with one answer for unknown, expired and revoked; CannotVerify.

        Before one is refused, the log is read up to now: another gateway may have issued it a moment ago.
        """
        if (id := key_of(credential)) is None:
            raise Unauthenticated("This is not written as an API key is: it was cut off, or mistyped.")
        if self.pepper is None:
            raise CannotVerify("This gateway has no SOMA_KEYS_PEPPER, and can tell of no key whether it is good.")
        asked, hash = time.monotonic(), self.pepper.hash(credential)
        fresh = await self.witness.within(FRESH_SECONDS, PATIENCE_SECONDS)
        found = self._match(id, hash)
        if fresh and not found:
            fresh = await self.witness.since(asked, PATIENCE_SECONDS)
            found = self._match(id, hash)
        if not fresh:
            raise CannotVerify("Kafka does not tell this gateway whether keys were revoked: none is taken until it does.")
        if not found:
            raise Unauthenticated("This API key is not good.")
        self._note(found.key)
        return _principal(found)

    def holds(self, principal: Principal) -> bool:
        """Whether the key that it stands for is still good, with the secret that was shown, and that is proved."""
        key = self._known.get(str(principal.claims.get("key")))
        if key is None or self.witness.age > FRESH_SECONDS:
            return False
        return any(secret.number == principal.claims.get("secret") for secret in key.secrets(datetime.now(UTC)))

    def _match(self, id: str, hash: bytes) -> Shown | None:
        """The key, where one of its secrets has this hash. How long it takes says nothing of how they differ."""
        key = self._known.get(id)
        secrets = key.secrets(datetime.now(UTC)) if key else ()
        found = [secret for secret in secrets or (NOBODY,) if hmac.compare_digest(secret.hash, hash)]
        if key and found:
            return Shown(key, found[0])
        if self.pepper and any(secret.pepper != self.pepper.name for secret in secrets):
            log.error("key %s was made with another pepper than this gateway has: give all gateways the same SOMA_KEYS_PEPPER", id)
        return None

    def _learn(self, key: Key) -> None:
        self._known[key.id] = key

    def _note(self, key: Key) -> None:
        """Tell that it was used, where that was not noted for an hour; the request does not wait for it."""
        used, now = key.state.used_at, datetime.now(UTC)
        if key.id in self._told or (used and now - used < NOTED):
            return
        self._told[key.id] = True
        task = asyncio.create_task(self._tell(key, now))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, key: Key, now: datetime) -> None:
        hour = now.strftime("%Y-%m-%dT%H")  # gateways that see it used in the same hour send the same command
        ask = Ask(key.id, NoteUse(at=now), "use of key", f"{key.id} {hour}", None, key.tenant, "gateway", None, NOTE_WAIT, {})
        try:
            await self._access.write(ask)
        except Problem as problem:
            log.info("the use of key %s is not noted: %s", key.id, problem.detail)


def _principal(shown: Shown) -> Principal:
    key, state = shown.key, shown.key.state
    claims = {"key": key.id, "secret": shown.secret.number}
    return Principal(key.tenant, f"key:{key.id}", "key", frozenset(state.scopes), claims=claims, expires_at=state.expires_at)
