"""A real OPA server for tests, with the policies of a directory or a bundle."""

from pathlib import Path

from ops.embedded.process import free_port
from tests import go_server
from tests.go_server import GoServer

VERSION = "v1.22.2"


def program() -> str:
    """Where OPA is. Skips the test where there is none."""
    return go_server.program("opa", VERSION)


class Opa(GoServer):
    """Serves once it has its bundle."""

    def __init__(self, bundle: Path, log: Path) -> None:
        address = f"127.0.0.1:{free_port()}"
        argv = [program(), "run", "--server", "--addr", address, "--disable-telemetry", "--log-level", "error", "--bundle", str(bundle)]
        super().__init__(argv, f"http://{address}", "/health?bundles", log)
