"""Where results lie that are too large for the record: files by default, any object store that obstore knows by setting."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import cached_property

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from ops.seal import Seals
from ops.settings import Settings
from schemas.sealing import Key

PIECE_BYTES = 256 << 10
RETRIES, RETRIED_FOR = 3, timedelta(seconds=10)


class StoreDown(Exception):
    """The store does not do what it is asked; says which one, and why."""


class Artifacts:
    """Content-addressed: the same result is kept once, and its address says what it must be, and which key it is sealed with.

    The store is opened when it is first used.
    """

    def __init__(self, settings: Settings, seals: Seals) -> None:
        self._url, self._directory, self._seals = settings.soma_artifacts_url, settings.soma_data_dir / "artifacts", seals

    async def keep(self, tenant: str, checksum: bytes, content: bytes, seal: str | None = None) -> str:
        """Its address within the store. With the key `seal` it is sealed there. Raises StoreDown, Erased, KeysDown."""
        path = f"{tenant}/{checksum.hex()[:2]}/{checksum.hex()}" + (f".{seal}" if seal else "")
        data = (await self._seals.key(seal)).seal(content, path) if seal else content
        try:
            await self._store.put_async(path, data)
        except (BaseError, OSError) as error:
            raise self._down(error) from error
        return path

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """Its content, in pieces, or opened in one. Before the first piece this raises FileNotFoundError, StoreDown, Erased or KeysDown."""
        _, _, seal = path.rpartition("/")[2].partition(".")
        key = await self._seals.key(seal) if seal else None
        try:
            found = await self._store.get_async(path)
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise self._down(error) from error
        pieces = (bytes(piece) async for piece in found.stream(min_chunk_size=PIECE_BYTES))
        return _opened(pieces, key, path) if key else pieces

    @cached_property
    def _store(self) -> ObjectStore:
        if self._url is None:
            return LocalStore(self._directory, mkdir=True)
        return from_url(self._url, retry_config={"max_retries": RETRIES, "retry_timeout": RETRIED_FOR})

    def _down(self, error: Exception) -> StoreDown:
        first = str(error).partition("\n")[0][:300]
        return StoreDown(f"The artifact store {self._url or self._directory} failed ({type(error).__name__}): {first}")


async def _opened(pieces: AsyncIterator[bytes], key: Key, path: str) -> AsyncIterator[bytes]:
    """What is sealed is sealed whole: none of it is true before the last byte is there."""
    yield key.open(b"".join([piece async for piece in pieces]), path)
