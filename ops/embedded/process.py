"""A server as a child process: its log file, when it is ready, and its end."""

import asyncio
import ctypes
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ops.embedded.errors import PortInUse, ServerFailed

POLL_SECONDS = 0.03
PATIENCE_SECONDS = 3.0
WATCH_SECONDS = 0.5
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)


async def require_free(port: int, variable: str) -> None:
    """Raises PortInUse unless a server could listen on this loopback port.

    Waits a moment first: the servers of a platform that was killed end by themselves, but not at once.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_free(port):
        if time.monotonic() > deadline:
            raise PortInUse(f"Port {port} on 127.0.0.1 is in use. Set {variable} to a free port, or stop what listens there.")
        await asyncio.sleep(POLL_SECONDS)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that was free a moment ago, outside of the range from which the system takes ports for outgoing connections."""
    while not _is_free(port := 10_000 + secrets.randbelow(22_000)):
        pass
    return port


@dataclass
class Server:
    """One server process. Start it from the main thread: it ends with the thread that started it, so that none outlives us.

    It leads a process group of its own, so that Ctrl-C in a terminal reaches only its supervisor, which stops it in order.
    It sees no environment but `env`: variables and secrets of the user's shell are no business of it.
    """

    name: str
    argv: Sequence[str]
    log: Path
    ready: str
    """A text in its log that says that it serves."""
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self, timeout: float = 60.0) -> None:
        """Returns when it serves; raises ServerFailed when it ended or is not ready in time. Leaves no process behind when it raises."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("wb") as output:
            self._process = _spawn(self.argv, self.env, self.user, output.fileno(), self.stop_signal)
        try:
            await self._until_ready(self._process, time.monotonic() + timeout, timeout)
        except BaseException:
            self.kill()
            raise

    async def _until_ready(self, process: subprocess.Popen[bytes], deadline: float, timeout: float) -> None:
        while self.ready not in self.log.read_text(errors="replace"):
            if process.poll() is not None:
                raise ServerFailed(f"{self.name} ended with code {process.returncode} while it started.\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} was not ready within {timeout:.0f} s.\n{tail(self.log)}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, timeout: float = 20.0) -> None:
        """Asks it to end, waits, and kills it when it has not ended in time. Nothing to do when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self.stop_signal)
        deadline = time.monotonic() + timeout
        try:
            while self._process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self.kill()

    async def failed(self) -> None:
        """Returns never; raises ServerFailed when it has ended by itself."""
        while self.pid:
            await asyncio.sleep(WATCH_SECONDS)
        assert self._process
        raise ServerFailed(f"{self.name} ended with code {self._process.returncode}.\n{tail(self.log)}")

    def kill(self) -> None:
        """SIGKILL: returns when it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Embedded:
    """What Kafka, the registry and PostgreSQL have in common once they have started their server. `start` may follow `stop` and `kill`."""

    name: str
    _server: Server | None = None

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    async def stop(self, timeout: float = 20.0) -> None:
        """Asks the server to end and waits; kills it when it has not ended in time."""
        if self._server:
            await self._server.stop(timeout)

    def kill(self) -> None:
        """SIGKILL, as a fault would."""
        if self._server:
            self._server.kill()

    async def failed(self) -> None:
        """Returns never; raises ServerFailed when the server has ended by itself."""
        assert self._server
        await self._server.failed()


async def run_once(name: str, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, user: str | None = None) -> None:
    """Runs a preparing command to its end; raises ServerFailed when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = _spawn(argv, env or {}, user, output.fileno())
    try:
        while process.poll() is None:
            await asyncio.sleep(POLL_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise ServerFailed(f"{name} ended with code {process.returncode}.\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in last or ["(nothing was written)"])])


def _spawn(
    argv: Sequence[str], env: Mapping[str, str], user: str | None, output: int, last_signal: int = signal.SIGTERM
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home()), "LC_ALL": "C.UTF-8", **env},
        process_group=0,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        preexec_fn=end_with_parent(last_signal),  # noqa: PLW1509 - the child only calls prctl
    )


def end_with_parent(last_signal: int) -> Callable[[], object] | None:
    """For `preexec_fn`: the child gets this signal when the thread that started it ends, however that comes about. Linux only."""
    return partial(_LIBC.prctl, _PR_SET_PDEATHSIG, last_signal) if sys.platform == "linux" else None
