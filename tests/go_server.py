"""A server that is one program, built by Go, run for tests."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import httpx
import pytest

from ops.embedded.maven import cache_dir
from ops.embedded.process import tail

START_SECONDS = 30


def program(name: str, version: str) -> str:
    """Where it is: built by `make NAME`, installed by Go, or on the PATH. Skips the test where there is none."""
    go = shutil.which("go")
    gopath = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip() if go else ""
    places = [cache_dir() / name / version, *([Path(gopath) / "bin"] if gopath else [])]
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"no {name} here: `make {name}` builds one, where Go is installed")
    return found


class GoServer:
    """One server at an address of its own, which it keeps: `start` and `stop` at will. It is there when `health` answers 200."""

    def __init__(self, argv: list[str], url: str, health: str, log: Path) -> None:
        self.url, self._argv, self._health, self._log = url, argv, health, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            assert self._process.poll() is None and time.monotonic() < deadline, tail(self._log)
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self._health}").status_code == 200
        except httpx.TransportError:
            return False
