"""The shipped policies, case by case: the same answers from `opa test`, from the embedded engine and from a real OPA server."""

import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import yaml

from gateway.engine import Embedded, Engine, engine
from gateway.policy import Verdict
from ops import rego
from ops.settings import Settings
from tests.opa import Opa, program

pytestmark = pytest.mark.asyncio(loop_scope="module")
HERE = Path(__file__).parent.parent / "policies"
CASES: dict[str, Any] = yaml.safe_load((HERE / "cases" / "data.yaml").read_text())
TERMS: dict[str, Any] = yaml.safe_load((HERE / "terms" / "data.yaml").read_text())
Engines = dict[str, Engine]


def directory(place: Path, tenants: Any) -> Path:
    """The shipped policies with other tenants."""
    place.mkdir()
    policies = rego.load(None)
    for name, text in policies.modules.items():
        (place / name).write_text(text)
    policies.data["soma"]["tenants"] = tenants
    (place / "data.json").write_text(json.dumps(policies.data))
    return place


@asynccontextmanager
async def embedded(bundle: Path) -> AsyncIterator[Engine]:
    async with engine(Settings(soma_policy_dir=bundle)) as started:
        yield started


@asynccontextmanager
async def server(bundle: Path) -> AsyncIterator[Engine]:
    with Opa(bundle, bundle.with_suffix(".log")) as opa:
        async with engine(Settings(opa_url=opa.url, policy_seconds=10)) as started:
            yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[embedded, server], ids=lambda kind: kind.__name__)
async def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    """An engine for each of the terms."""
    start: Callable[[Path], Any] = request.param
    place = tmp_path_factory.mktemp("policies")
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(start(directory(place / name, tenants))) for name, tenants in TERMS.items()}


@pytest.mark.parametrize("name", CASES)
async def test_both_engines_decide(engines: Engines, name: str) -> None:
    case = CASES[name]
    # when
    answer = await engines[case.get("terms", "shipped")].ask(case["input"])
    # then
    verdict = msgspec.convert(answer.found, Verdict)
    assert (verdict.allow, verdict.rule) == (case["allow"], case["rule"])
    assert list(verdict.reasons) == case.get("reasons", list(verdict.reasons))


async def test_opa_itself_finds_the_policies_and_their_cases_well() -> None:
    for command in (["check", "--strict"], ["test"]):
        done = subprocess.run([program(), *command, "ops/policies", "tests/policies"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_the_version_of_embedded_policies_changes_with_any_of_their_bytes(tmp_path: Path) -> None:
    # given
    bundle = directory(tmp_path / "policies", TERMS["shipped"])
    before = rego.load(bundle).version
    # when
    with (bundle / "call.rego").open("a") as module:
        module.write("# a word\n")
    # then
    assert rego.load(bundle).version != before == rego.load(None).version


async def test_the_version_of_a_servers_policies_is_the_revision_of_its_bundle(tmp_path: Path) -> None:
    # given
    bundle, built = directory(tmp_path / "policies", TERMS["shipped"]), tmp_path / "bundle.tar.gz"
    subprocess.run([program(), "build", "--bundle", str(bundle), "--revision", "r7", "--output", str(built)], check=True)
    # when
    async with server(built) as opa:
        answer = await opa.ask({})
    # then
    assert answer.version == "r7"


@pytest.mark.parametrize(
    ("name", "text"),
    [("gate.rego", "package soma.gate\ndecision := {"), ("data.json", "{"), ("data.json", "[]")],
)
async def test_policies_that_cannot_be_used_are_refused_at_the_start(tmp_path: Path, name: str, text: str) -> None:
    # given
    bundle = directory(tmp_path / "policies", TERMS["shipped"])
    (bundle / name).write_text(text)
    # when, then
    with pytest.raises(ValueError, match="cannot be"):
        Embedded(rego.load(bundle))


async def test_a_directory_without_policies_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")

    with pytest.raises(ValueError, match="holds no"):
        rego.load(tmp_path)
