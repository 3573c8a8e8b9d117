"""The tools that come with the platform, run as any other tool."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from streams.tools.checks import check_definition, problem
from streams.tools.running import Result, Runner, runner
from streams.tools.shipped import calculator, shipped
from tests.streams.tools.making import call, ways
from tests.streams.tools.server import says, serving

DEFINITIONS = {definition.name: definition for definition in shipped()}


@pytest.fixture
async def tools() -> AsyncIterator[dict[str, Runner]]:
    runners = {name: runner(definition, ways()) for name, definition in DEFINITIONS.items()}
    yield runners
    for tool in runners.values():
        await tool.close()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_shipped_definition_can_be_registered(name: str) -> None:
    assert check_definition(DEFINITIONS[name]) == []


async def test_the_clock_knows_zones(tools: dict[str, Runner]) -> None:
    utc = await tools["clock"].run(call())
    tokyo, nowhere = [await tools["clock"].run(call(zone=zone)) for zone in ("Asia/Tokyo", "../etc")]

    assert utc.content.endswith(b'+00:00"')
    assert datetime.fromisoformat(tokyo.content.decode().strip('"')).utcoffset() == timedelta(hours=9)
    assert nowhere == Result("error", b"../etc is not the name of a time zone: names look like Europe/Berlin")


async def test_the_calculator_runs_as_a_tool(tools: dict[str, Runner]) -> None:
    assert await tools["calculator"].run(call(expression="(1 + 2) * 3")) == Result("ok", b"9")
    assert await tools["calculator"].run(call(expression="1 / 0")) == Result(
        "error", b"the expression cannot be calculated: division by zero"
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", 7),
        ("2**10", 1024),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("sqrt(16)", 4),
        ("max(1, 2, 3)", 3),
        ("round(pi, 2)", 3.14),
        ("1e3", 1000),
    ],
)
def test_what_is_calculated(expression: str, value: float) -> None:
    assert calculator({"expression": expression}, call_id="") == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "x",
        "1 +",
        "9**9**9",
        "(2**1000)**1000",
        "10**999*10**999*10**999*10**999*10**999",
        "'a'*9",
        "[1]*9",
        "1 if 1 else 2",
        "1,2",
        "a=1",
        *("pi.real", "(1).__class__", "__import__('os')", "1e308*10", "True", "3j", "(-8)**0.5", "sqrt(-1)", "f'{1}'", "1<<9"),
        "-" * 900 + "1",
        "(" * 400 + "1" + ")" * 400,
        "1" * 1001,
        "sqrt",
        "max()",
        "abs('a')",
        "round(1, 2, 3)",
        "lambda: 1",
        "[x for x in 'ab']",
    ],
)
def test_what_is_not_calculated_says_why(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        calculator({"expression": expression}, call_id="")


async def test_http_get_reaches_no_host_until_one_is_listed(tools: dict[str, Runner]) -> None:
    result = await tools["http_get"].run(call(url="https://example.org/"))

    assert result == Result("error", b"this tool may reach no host: list those it may in SOMA_HTTP_GET_HOSTS")


async def test_http_get_reaches_listed_hosts_alone() -> None:
    async with serving({"/a%20b": says("a letter")}) as server:
        tool = runner(DEFINITIONS["http_get"], ways(open_hosts=("127.0.0.1",)))
        good, bad = [await tool.run(call(url=url)) for url in (server.url("/a%20b?c=d&e=f"), server.url("/", "localhost"))]
        await tool.close()

    assert good == Result("ok", b"a letter")
    assert server.requests[0].target == "/a%20b?c=d&e=f"
    assert b"localhost is not among the hosts" in bad.content


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1/", "127.0.0.1", "", "http://", "http://[", "http://user@127.0.0.1:1/", 7]
)
async def test_what_is_no_address_is_an_error(url: Any) -> None:
    tool = runner(DEFINITIONS["http_get"], ways(open_hosts=("127.0.0.1",)))
    result = await tool.run(call(url=url))
    await tool.close()

    assert result.outcome == "error"


def test_arguments_that_do_not_fit_are_found_before_a_call() -> None:
    assert problem(DEFINITIONS["http_get"].parameters, {}) == 'the value: "url" is a required property'
