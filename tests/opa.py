"""A real OPA server for tests, with the policies of a directory."""

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

VERSION = "v1.22.2"


def program() -> str:
    """Where OPA is: built by `make opa`, installed by Go, or on the PATH. Skips the test where there is none."""
    go = shutil.which("go")
    gopath = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip() if go else ""
    places = [cache_dir() / "opa" / VERSION, *([Path(gopath) / "bin"] if gopath else [])]
    found = shutil.which("opa", path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("no OPA here: `make opa` builds one, where Go is installed")
    return found


class Opa:
    """One server on a port of its own, which it keeps: `stop` and `start` at will."""

    def __init__(self, bundle: Path, log: Path) -> None:
        self._argv = [program(), "run", "--server", "--addr", f"127.0.0.1:{(port := free_port())}", "--disable-telemetry"]
        self._argv += ["--log-level", "error", "--bundle", str(bundle)]
        self.url, self._log = f"http://127.0.0.1:{port}", log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it serves its bundle."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not self._healthy():
            assert self._process.poll() is None and time.monotonic() < deadline, tail(self._log)
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health?bundles").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(bundle: Path, log: Path) -> Iterator[Opa]:
    opa = Opa(bundle, log)
    try:
        opa.start()
        yield opa
    finally:
        opa.stop()
