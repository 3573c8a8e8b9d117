"""An embedded schema registry: Apicurio, by its Confluent API, with its schemas in an H2 file."""

import shutil
import tarfile
from functools import cache
from pathlib import Path

from jgo.env import LockFile

from ops.embedded.java import Program
from ops.embedded.maven import LOCKS, cache_dir, exclusive, fetch
from ops.embedded.process import Embedded, Server, require_free


@cache
def program() -> Program:
    """Apicurio Registry 3.3.3 from the lock, unpacked into the cache once. Raises FetchFailed."""
    locked = LockFile.load(LOCKS / "registry.lock").dependencies[0]
    home = cache_dir() / f"registry-{locked.version}-{str(locked.sha256)[:12]}"
    with exclusive(cache_dir() / "registry.flock"):
        if not home.exists():
            _unpack(home)
    return Program("384m", ("-jar", str(home / "quarkus-run.jar")))


def _unpack(home: Path) -> None:
    [archive] = fetch("registry.lock")
    unfinished = home.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(unfinished, filter="data")
    unfinished.rename(home)
    archive.unlink()  # 150 MB that are not read again


class Registry(Embedded):
    """A registry that keeps its schemas in `data_dir/registry`; schema ids survive a restart."""

    name = "The schema registry"

    def __init__(self, data_dir: Path, port: int, *, record: bool = False) -> None:
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        self._port = port
        self._data_dir = data_dir
        self._record = record

    async def start(self) -> None:
        """Returns when it takes requests. Raises ServerFailed, PortInUse or FetchFailed."""
        await require_free(self._port, "SOMA_REGISTRY_PORT")
        log = self._data_dir / "logs" / "registry.log"
        self._server = Server(self.name, program().command(record=self._record), log, ready="Listening on", env=self._environment())
        await self._server.start()

    def _environment(self) -> dict[str, str]:
        return {
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self._port),
            # Quarkus opens a second port for its own metrics, by default on every interface; it cannot be turned off.
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{self._data_dir / 'registry' / 'schemas'}",
        }
