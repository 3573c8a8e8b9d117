"""The data keys of a platform's text: one for each tenant and subject, at hand for seconds, so that one that is destroyed is soon nowhere.

    SOMA_SEAL=local  ops/seal_file.py: files, wrapped by a master key, for one machine
    SOMA_SEAL=vault  ops/seal_vault.py: made and kept by the transit engine of Vault or OpenBao, for any number of machines

A key's id tells nothing of tenant and subject: it is `NAME.VERSION`, the name an HMAC, the version counted. After an erasure the same
subject's text is sealed with the next version.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from cachetools import TTLCache
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential_jitter

from ops.settings import Settings
from schemas import sealing
from schemas.sealing import Key, Unopenable, key_ids
from schemas.types.common import Sealed

log = logging.getLogger("soma.seal")
KEPT_SECONDS = 5.0
"""How long a key that was destroyed may still be at hand in a process."""
KEPT_KEYS = 10_000
ASK_SECONDS, AGAIN_SECONDS, THREADS = 5.0, 1.0, 4
T = TypeVar("T")
K = TypeVar("K")


class Erased(Exception):
    """The key was destroyed, or is none that was ever made: nobody can read what it sealed."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"The key {key_id} was destroyed: what it sealed cannot be read any more.")
        self.key_id = key_id


class KeysDown(Exception):
    """The keys cannot be had now. Says why, and nothing of them."""


class BadSeal(ValueError):
    """Settings, or a master key, with which nothing can be sealed."""


class Keys(Protocol):
    """Where data keys are. All of it blocks, may be called by many threads at once, and raises KeysDown."""

    def newest(self, tenant: str, subject: str) -> str:
        """The id of the key that the subject's text is sealed with from now on: made where there is none."""

    def secret(self, key_id: str) -> bytes:
        """32 bytes. Raises Erased."""

    def destroy(self, tenant: str, subject: str) -> tuple[str, ...]:
        """Destroy every key of the subject, for good. Their ids; none where there were none."""

    def check(self) -> None:
        """Returns where keys can be had now. Makes none."""


class Seals:
    """Seals and opens. Without keys text stays as it is, and nothing is opened.

    Keys are asked for in threads of their own. Where they cannot be had, nobody asks again for a second: callers are told at once.
    """

    def __init__(self, keys: Keys | None = None) -> None:
        self._keys, self._threads = keys, ThreadPoolExecutor(THREADS, "seal")
        self._down, self._again_at = "", 0.0
        self._newest: TTLCache[tuple[str, str], str] = TTLCache(KEPT_KEYS, KEPT_SECONDS)
        self._at_hand: TTLCache[str, Key] = TTLCache(KEPT_KEYS, KEPT_SECONDS)

    @property
    def on(self) -> bool:
        return self._keys is not None

    async def check(self) -> None:
        """Returns where keys can be had now, or none are needed. Raises KeysDown."""
        if self._keys:
            await self._asked(self._keys.check)

    async def of(self, tenant: str, subject: str) -> str | None:
        """The id of the key for the subject's text; None where sealing is off. Raises KeysDown."""
        if self._keys is None:
            return None
        keys = self._keys
        return await self._kept(self._newest, (tenant, subject), lambda: keys.newest(tenant, subject))

    async def key(self, key_id: str) -> Key:
        """Raises Erased, KeysDown: also where sealing is off."""
        if self._keys is None:
            raise KeysDown(f"This text is sealed with the key {key_id}, and sealing is off here: set SOMA_SEAL.")
        keys = self._keys
        return await self._kept(self._at_hand, key_id, lambda: Key(key_id, keys.secret(key_id)))

    async def sealed(self, record: T, key_id: str | None, about: str) -> T:
        """With its text sealed, as belonging to the session `about`; as it is where there is no key. Raises Erased, KeysDown."""
        return sealing.sealed(record, await self.key(key_id), about) if key_id else record

    async def opened(self, value: T, about: str) -> T:
        """With all the text in it that can be opened. What was erased, or is sealed for another place, stays sealed. Raises KeysDown."""
        if self._keys is None or not (ids := key_ids(value)):
            return value
        keys = {id: key for id in ids if (key := await self._there(id))}
        return sealing.opened(value, lambda text: _text(text, keys, about))

    async def key_at_last(self, key_id: str) -> Key:
        """As `key`, waiting for one that cannot be had now. Raises Erased."""
        return await _when_there()(self.key, key_id)

    async def sealed_at_last(self, record: T, key_id: str | None, about: str) -> T:
        """As `sealed`, waiting for keys that cannot be had now. Raises Erased."""
        return sealing.sealed(record, await self.key_at_last(key_id), about) if key_id else record

    async def opened_at_last(self, value: T, about: str) -> T:
        """As `opened`, waiting for keys that cannot be had now; where sealing is off what is sealed stays so."""
        return await _when_there()(self.opened, value, about) if self.on else value

    async def _kept(self, cache: TTLCache[K, T], name: K, ask: Callable[[], T]) -> T:
        """From the cache, else by asking. Raises KeysDown."""
        if (found := cache.get(name)) is None:
            found = cache[name] = await self._asked(ask)
        return found

    async def _asked(self, ask: Callable[[], T]) -> T:
        """Raises KeysDown after ASK_SECONDS at the latest."""
        if time.monotonic() < self._again_at:
            raise KeysDown(self._down)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except (KeysDown, TimeoutError) as error:
            self._down = str(error) or f"The keys of sealed text do not come within {ASK_SECONDS:.0f} s."
            self._again_at = time.monotonic() + AGAIN_SECONDS
            raise KeysDown(self._down) from error

    async def _there(self, key_id: str) -> Key | None:
        try:
            return await self.key(key_id)
        except Erased:
            return None


def _when_there() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(KeysDown),
        wait=wait_exponential_jitter(multiplier=0.2, max=5),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )


def _text(text: Sealed, keys: dict[str, Key], about: str) -> str | Sealed:
    if (key := keys.get(text.key_id)) is None:
        return text
    try:
        return key.open(text.ciphertext, about).decode()
    except Unopenable as error:
        log.warning("%s", error)
        return text


def load(settings: Settings) -> Seals:
    """As the settings say. Raises BadSeal."""
    return Seals(keys(settings))


def keys(settings: Settings) -> Keys | None:
    """Where the settings say that keys are; None where sealing is off. Raises BadSeal."""
    match settings.soma_seal:
        case "off":
            return None
        case "local":
            from ops.seal_file import FileKeys

            return FileKeys.load(settings)
        case "vault":
            from ops.seal_vault import VaultKeys

            return VaultKeys.load(settings)
