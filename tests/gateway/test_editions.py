"""Published versions, made ready by both engines: the same answers, the same refusals with their places, and none from outside."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import yaml

from gateway.bundle import Unusable, check, join
from gateway.editions import policies
from gateway.engine import Embedded, Engine, EngineDown, Maker, engine
from gateway.policy import Verdict
from ops import rego
from ops.settings import Settings
from schemas.types.policy import Bundle, Module
from tests.opa import Opa

pytestmark = pytest.mark.asyncio(loop_scope="module")
HERE = Path(__file__).parent.parent / "policies"
CASES: dict[str, Any] = yaml.safe_load((HERE / "cases" / "data.yaml").read_text())
TERMS: dict[str, Any] = yaml.safe_load((HERE / "terms" / "data.yaml").read_text())
CLOSED = 'package soma.gate\n\ndecision := {"allow": false, "rule": "closed", "reasons": ["Come back tomorrow."]}\n'


def bundle(modules: dict[str, str], data: Any = None) -> Bundle:
    return Bundle(
        modules=tuple(Module(name=name, text=text) for name, text in modules.items()), data=json.dumps({} if data is None else data)
    )


def shipped(tenants: Any = None) -> Bundle:
    """The shipped policies, as somebody publishes them."""
    found = rego.load(None)
    return bundle(found.modules, {"soma": found.data["soma"] | ({"tenants": tenants} if tenants else {})})


@asynccontextmanager
async def embedded(_: Path) -> AsyncIterator[Maker]:
    async with engine(Settings()) as started:
        yield started


@asynccontextmanager
async def server(place: Path) -> AsyncIterator[Maker]:
    with Opa(rego.SHIPPED, place / "opa.log") as opa:
        async with engine(Settings(opa_url=opa.url, policy_seconds=10)) as started:
            yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[embedded, server], ids=lambda kind: kind.__name__)
async def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Maker]:
    start: Callable[[Path], Any] = request.param
    async with start(tmp_path_factory.mktemp("policies")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def versions(maker: Maker) -> dict[str, Engine]:
    """The shipped policies published again, once for each of the terms: all of them are there at the same time."""
    return {name: await maker.other(policies(f"{number}@{name}", shipped(terms))) for number, (name, terms) in enumerate(TERMS.items())}


@pytest.mark.parametrize("name", CASES)
async def test_a_published_version_decides_as_its_files_would(versions: dict[str, Engine], name: str) -> None:
    case = CASES[name]
    # when
    answer = await versions[case.get("terms", "shipped")].ask(case["input"])
    # then
    verdict = msgspec.convert(answer.found, Verdict)
    assert (verdict.allow, verdict.rule) == (case["allow"], case["rule"])
    assert list(verdict.reasons) == case.get("reasons", list(verdict.reasons))
    assert answer.version.partition("@")[2] == case.get("terms", "shipped")


async def test_versions_beside_each_other_do_not_mix_and_the_engine_itself_stays_as_it_was(maker: Maker) -> None:
    # given
    question = next(case["input"] for case in CASES.values() if case["allow"])
    closed = await maker.other(policies("1@c", bundle({"gate.rego": CLOSED})))
    undecided = await maker.other(policies("2@u", bundle({"gate.rego": "package soma.gate\n\ndecision := input.nothing\n"})))
    # when
    first, second, third = await asyncio.gather(closed.ask(question), undecided.ask(question), maker.ask(question))
    # then
    assert (first.found["rule"], first.version) == ("closed", "1@c")
    assert (second.found, second.version) == (None, "2@u")
    assert third.found["allow"] is True


async def test_what_does_not_compile_says_where(maker: Maker) -> None:
    with pytest.raises(Unusable) as refused:
        await maker.other(policies("1@x", bundle({"a.rego": "package soma.gate\n", "b.rego": "package soma.gate\n\ndecision := {\n"})))
    assert ("b.rego", 3) in {(fault.file, fault.line) for fault in refused.value.faults}


async def test_lines_end_where_rego_ends_them_whatever_a_text_holds(maker: Maker) -> None:
    text = 'package soma.gate\r\n\r\n# of \x0b its own\r\ndecision := {"allow": false, "rule": "closed", "reasons": ["one\u2028two"]}\r\n'
    made = await maker.other(policies("1@lines", bundle({"gate.rego": text})))
    assert (await made.ask({})).found["reasons"] == ["one\u2028two"]


async def test_imports_of_several_files_are_those_of_all_of_them(maker: Maker) -> None:
    modules = {
        "a.rego": "# first\npackage soma.gate\nimport rego.v1\n\ndecision := answer\n",
        "b.rego": 'package soma.gate\nimport rego.v1\n\nanswer := {"allow": true, "rule": data.soma.rule}\n',
    }
    made = await maker.other(policies("1@i", bundle(modules, {"soma": {"rule": "mine"}})))
    assert (await made.ask({})).found == {"allow": True, "rule": "mine"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("decision := true", "gate.rego:1"),
        ("# nothing", "gate.rego:1"),
        ("# of its own\npackage soma.other\n", "gate.rego:2"),
        ('package soma.gate\nx := http.send({"url": "http://127.0.0.1"})', "gate.rego:2:6"),
        ('package soma.gate\nx := opa["runtime"]()', "gate.rego:2:6"),
        ("package soma.gate\n\nx := y if { y := time.now_ns() }", "gate.rego:3:18"),
        ("package soma.gate\nx := data.soma.gate.y", "gate.rego:2:6"),
        ("package soma.gate\nsoma_answer := 1", "gate.rego:2"),
    ],
)
async def test_what_is_not_for_policies_is_refused_before_it_is_compiled(text: str, place: str) -> None:
    with pytest.raises(Unusable) as refused:
        check(policies("1@x", bundle({"gate.rego": text})))
    assert [fault.place for fault in refused.value.faults] == [place]


@pytest.mark.parametrize("data", [{"other": 1}, {"soma": 1}, {"soma": {"gate": {}}}])
async def test_data_lies_where_modules_find_it_in_either_engine(data: Any) -> None:
    with pytest.raises(Unusable):
        check(policies("1@x", bundle({"gate.rego": CLOSED}, data)))


async def test_the_shipped_policies_can_be_published_as_they_are() -> None:
    check(policies("1@x", shipped()))


async def test_a_line_of_joined_modules_is_traced_to_where_it_was_written() -> None:
    joined = join(policies("1@x", bundle({"a.rego": "package soma.gate\nimport rego.v1\nx := 1", "b.rego": CLOSED})), "p", "{}")
    lines = joined.text.splitlines()
    assert lines[0] == "package p"
    for number, line in enumerate(lines, 1):
        if line.startswith(("x :=", "decision :=")):
            found = joined.fault(number, 1, "wrong")
            assert (found.file, found.line) == (("a.rego", 3) if line.startswith("x") else ("b.rego", 3))


async def test_a_server_that_was_started_anew_is_handed_its_version_again(tmp_path: Path) -> None:
    # given
    opa = Opa(rego.SHIPPED, tmp_path / "opa.log")
    opa.start()
    try:
        async with engine(Settings(opa_url=opa.url, policy_seconds=10)) as started:
            closed = await started.other(policies("1@c", bundle({"gate.rego": CLOSED})))
            # when
            opa.stop()
            with pytest.raises(EngineDown):
                await closed.ask({})
            opa.start()
            # then
            assert (await closed.ask({})).found["rule"] == "closed"
    finally:
        opa.stop()


async def test_a_server_that_takes_nothing_from_gateways_is_told_from_policies_that_are_wrong(tmp_path: Path) -> None:
    # given a bundle that names no roots, and so owns all of the server's documents
    place = tmp_path / "whole"
    place.mkdir()
    for path in rego.SHIPPED.iterdir():
        if path.name != ".manifest":
            (place / path.name).write_bytes(path.read_bytes())
    with Opa(place, tmp_path / "opa.log") as opa:
        async with engine(Settings(opa_url=opa.url, policy_seconds=10)) as started:
            # when, then
            with pytest.raises(EngineDown, match="does not take"):
                await started.other(policies("1@c", bundle({"gate.rego": CLOSED})))


async def test_an_embedded_version_is_compiled_beside_the_one_that_decides() -> None:
    running = Embedded(rego.load(None))
    other = await running.other(policies("1@c", bundle({"gate.rego": CLOSED})))
    assert ((await other.ask({})).version, (await running.ask({})).version) == ("1@c", rego.load(None).version)
