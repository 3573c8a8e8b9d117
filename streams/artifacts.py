"""Where results lie that are too large for the record: files by default, any object store that obstore knows by setting."""

from obstore.store import LocalStore, ObjectStore, from_url

from ops.settings import Settings


class Artifacts:
    """Content-addressed: the same result is kept once, and its address says what it must be."""

    def __init__(self, settings: Settings) -> None:
        url = settings.soma_artifacts_url
        if url is None:
            directory = settings.soma_data_dir / "artifacts"
            directory.mkdir(parents=True, exist_ok=True)
        self._store: ObjectStore = from_url(url) if url else LocalStore(settings.soma_data_dir / "artifacts")

    async def keep(self, tenant: str, checksum: bytes, content: bytes) -> str:
        """Its address within the store. Raises obstore's errors."""
        path = f"{tenant}/{checksum.hex()[:2]}/{checksum.hex()}"
        await self._store.put_async(path, content)
        return path

    async def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        return bytes(await (await self._store.get_async(path)).bytes_async())
