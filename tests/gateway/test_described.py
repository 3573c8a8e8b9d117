"""The API is as its description says, whatever is sent to it: no defect (500), no answer that is not described, by schemathesis.

Bounded by the number of its cases. It signs in as a tenant of its own that may do everything.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.closed import closed, gateway, provider, signed_in, worker
from tests.gateway.platform import Gateway
from tests.gateway.provider import Provider

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
__all__ = ["closed", "gateway", "provider", "worker"]
HOW = Path(__file__).with_name("schemathesis.toml")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,"
    "missing_required_header"
)


@pytest_asyncio.fixture(loop_scope="module")
async def impatient(closed: Settings, gateway: Gateway, worker: Process) -> AsyncIterator[Gateway]:
    """A gateway that keeps nobody waiting for long, as nothing here finishes tool calls."""
    async with Gateway(closed.model_copy(update={"gateway_wait_seconds": 0.2, "gateway_port": free_port()})) as impatient:
        await impatient.until_healthy()
        yield impatient


@pytest.mark.parametrize(("phase", "prefer"), [("examples", "wait=1"), ("fuzzing", "wait=0")])
async def test_every_operation_answers_as_it_is_described(
    impatient: Gateway, provider: Provider, phase: str, prefer: str, tmp_path: Path
) -> None:
    # given
    address = str(impatient.client.base_url)
    who = signed_in(provider, tenant=f"schemathesis-{phase}")["Authorization"]
    asked = ("--header", f"Authorization: {who}", "--header", "Accept: application/json", "--header", f"Prefer: {prefer}")
    bounds = (
        "--checks",
        CHECKS,
        "--phases",
        phase,
        "--max-examples",
        "5",
        "--seed",
        "1",
        "--request-timeout",
        "20",
        "--exclude-path-regex",
        "/events$",
    )  # a stream has no end
    command = ["-m", "schemathesis.cli", "--config-file", str(HOW), "run", f"{address}/openapi.json", *asked, *bounds, "--no-color"]
    # when
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=tmp_path, stdout=output, stderr=output)
        code = await process.wait()
    # then
    assert code == 0, said.read_text()
