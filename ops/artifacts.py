"""Where results lie that are too large for the record: files by default, any object store that obstore knows by setting."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import cached_property

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from ops.settings import Settings

PIECE_BYTES = 256 << 10
RETRIES, RETRIED_FOR = 3, timedelta(seconds=10)


class StoreDown(Exception):
    """The store does not do what it is asked; says which one, and why."""


class Artifacts:
    """Content-addressed: the same result is kept once, and its address says what it must be. The store is opened when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self._url, self._directory = settings.soma_artifacts_url, settings.soma_data_dir / "artifacts"

    async def keep(self, tenant: str, checksum: bytes, content: bytes) -> str:
        """Its address within the store. Raises StoreDown."""
        path = f"{tenant}/{checksum.hex()[:2]}/{checksum.hex()}"
        try:
            await self._store.put_async(path, content)
        except (BaseError, OSError) as error:
            raise self._down(error) from error
        return path

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """Its content, in pieces. Before the first piece this raises FileNotFoundError or StoreDown."""
        try:
            found = await self._store.get_async(path)
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise self._down(error) from error
        return (bytes(piece) async for piece in found.stream(min_chunk_size=PIECE_BYTES))

    @cached_property
    def _store(self) -> ObjectStore:
        if self._url is None:
            return LocalStore(self._directory, mkdir=True)
        return from_url(self._url, retry_config={"max_retries": RETRIES, "retry_timeout": RETRIED_FOR})

    def _down(self, error: Exception) -> StoreDown:
        first = str(error).partition("\n")[0][:300]
        return StoreDown(f"The artifact store {self._url or self._directory} failed ({type(error).__name__}): {first}")
