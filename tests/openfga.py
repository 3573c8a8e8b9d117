"""A real OpenFGA server for tests, with nothing in it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ops.embedded.maven import cache_dir
from ops.embedded.process import free_port, tail

VERSION = "v1.22.1"


def program() -> str:
    """Where OpenFGA is: built by `make openfga`, installed by Go, or on the PATH. Skips the test where there is none."""
    go = shutil.which("go")
    gopath = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip() if go else ""
    places = [cache_dir() / "openfga" / VERSION, *([Path(gopath) / "bin"] if gopath else [])]
    found = shutil.which("openfga", path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("no OpenFGA here: `make openfga` builds one, where Go is installed")
    return found


class Server:
    """One server on ports of its own, which it keeps: `stop` and `start` at will. It forgets what it had."""

    def __init__(self, log: Path) -> None:
        address, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._argv = [program(), "run", "--http-addr", address, "--grpc-addr", grpc, "--log-level", "error"]
        self._argv += ["--playground-enabled=false", "--metrics-enabled=false", "--profiler-enabled=false"]
        self.url, self._log = f"http://{address}", log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it serves."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not self._healthy():
            assert self._process.poll() is None and time.monotonic() < deadline, tail(self._log)
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def drop(self, name: str) -> None:
        """Remove the stores of this name, with all that is in them."""
        for store in httpx.get(f"{self.url}/stores", params={"name": name}).json()["stores"]:
            httpx.delete(f"{self.url}/stores/{store['id']}").raise_for_status()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(log: Path) -> Iterator[Server]:
    server = Server(log)
    try:
        server.start()
        yield server
    finally:
        server.stop()
