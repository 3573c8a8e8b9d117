"""Which policies decide here: the version that is active as this gateway has read it, asked of an engine that was made for it.

    soma.policy.events ──► catalogue ──► active version ──► the engine's other self for it ──► decision

What is done to the policies themselves is decided by the shipped ones alone: so no version can shut out those who may go back, nor let in
others. Before the topic is read the version is not known: then the one that this gateway knew last decides, if it has run here before.
"""

import asyncio
import logging
import os
import secrets
from typing import Any, Never

import msgspec
from cachetools import LRUCache
from msgspec import Struct

from gateway.bundle import check
from gateway.engine import Answer, Engine, EngineDown, Maker
from ops.rego import Policies
from ops.settings import Settings
from projections import policy
from projections.policy import NAME, Edition, Shelf
from schemas.types.policy import Bundle

log = logging.getLogger("soma.gateway")
OWN = "policy."
"""Begins the actions that the shipped policies decide, whatever is active."""
KEPT = 8
"""Versions that are kept compiled: the active one, and those that were tried last."""


class Known(Struct, frozen=True):
    """What decided here last; None: the shipped policies."""

    edition: Edition | None


class Editions:
    """An Engine. `shipped` are the policies that the settings name."""

    def __init__(self, shipped: Maker, catalogue: policy.Policies, settings: Settings) -> None:
        self.shipped, self.line, self._catalogue = shipped, shipped.line, catalogue
        self._tenant, self._file = settings.soma_policy_tenant, settings.soma_data_dir / "policy.json"
        self._remembered: Known | None = None
        self._made: LRUCache[str, asyncio.Task[Engine]] = LRUCache(KEPT)
        self._changed = asyncio.Event()
        catalogue.when_known.append(lambda _: self._changed.set())

    @property
    def shelf(self) -> Shelf | None:
        """All versions, as of what was read; None where none was published."""
        return self._catalogue.find(self._tenant, NAME)

    async def ask(self, document: dict[str, Any]) -> Answer:
        """What decides now says so. Raises EngineDown, also while it is not known which version does."""
        if str(document["action"]).startswith(OWN):
            return await self.shipped.ask(document)
        return await (await self.of(self._active())).ask(document)

    async def of(self, edition: Edition | None) -> Engine:
        """An engine for this version; None: the shipped policies. Raises EngineDown, also where it cannot be compiled any more."""
        if edition is None:
            return self.shipped
        try:
            if (made := self._made.get(edition.name)) is None or (made.done() and (made.cancelled() or made.exception())):
                made = self._made[edition.name] = asyncio.create_task(self.shipped.other(policies(edition.name, edition.bundle)))
            return await asyncio.shield(made)  # whoever asks may go away: the next one wants it too
        except ValueError as error:
            raise EngineDown(f"version {edition.name}: {error}") from error

    async def check(self, bundle: Bundle) -> str:
        """The digest of these, which can be published: they have the right form, and compile. Raises Unusable, EngineDown."""
        tried = policies(digest := policy.fingerprint(bundle), bundle)
        check(tried)
        await self.shipped.compile(tried)
        return digest

    async def run(self) -> Never:
        """Have what is active ready before it is asked, and remember it for a start without Kafka."""
        await self._catalogue.caught_up()
        while True:
            self._changed.clear()
            active = self.shelf.active if self.shelf else None
            try:
                await self.of(active)
                await asyncio.to_thread(self.remember, active)
                log.info("the policies that decide: %s", active.name if active else policy.SHIPPED)
            except (EngineDown, OSError) as error:
                log.error("the active policies: %s", error)
            await self._changed.wait()

    def remember(self, active: Edition | None) -> None:
        """Keep what decides here, for a start at which it cannot be read. Raises OSError."""
        new = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
        new.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(Known(active)))
        new.replace(self._file)

    def _active(self) -> Edition | None:
        if self._catalogue.ready:
            return self.shelf.active if self.shelf else None
        self._remembered = self._remembered or self._recall()
        if self._remembered is None:
            raise EngineDown("it is not read yet which version of them decides")
        return self._remembered.edition

    def _recall(self) -> Known | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Known)
        except (OSError, msgspec.MsgspecError):
            return None


def policies(version: str, bundle: Bundle) -> Policies:
    """As engines take them. Raises ValueError for data that is no JSON object."""
    try:
        data = msgspec.json.decode(bundle.data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(f"its data cannot be read: {error}") from error
    return Policies({module.name: module.text for module in bundle.modules}, data, version)
