"""A real OpenFGA server for tests, with nothing in it. What it has is forgotten when it stops."""

from pathlib import Path

import httpx

from ops.embedded.process import free_port
from tests import go_server
from tests.go_server import GoServer

VERSION = "v1.22.1"
QUIET = ["--log-level", "error", "--playground-enabled=false", "--metrics-enabled=false", "--profiler-enabled=false"]


class OpenFga(GoServer):
    def __init__(self, log: Path) -> None:
        address, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
        argv = [go_server.program("openfga", VERSION), "run", "--http-addr", address, "--grpc-addr", grpc, *QUIET]
        super().__init__(argv, f"http://{address}", "/healthz", log)

    def drop(self, name: str) -> None:
        """Remove the stores of this name, with all that is in them."""
        for store in httpx.get(f"{self.url}/stores", params={"name": name}).json()["stores"]:
            httpx.delete(f"{self.url}/stores/{store['id']}").raise_for_status()
