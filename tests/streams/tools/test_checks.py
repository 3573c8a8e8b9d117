"""What a definition may say, and what values its schemas accept."""

import json
from typing import Any

import pytest

from ops.json_schema import BadSchema, compiled
from ops.settings import load
from schemas.types.tool import Definition, Http, Mcp, Python
from streams.tools.checks import check_definition, problem
from streams.tools.http import Http as HttpRunner
from streams.tools.running import runner, ways
from tests.streams.tools.making import definition

PYTHON = Python(entry_point="clock")
ID = '{"type": "object", "properties": {"id": {"type": "string"}}}'


def get(url: str, **fields: Any) -> Http:
    return Http(method="GET", url=url, **fields)


@pytest.mark.parametrize(
    "right",
    [
        definition(python=PYTHON),
        definition(name="a" * 64, http=get("https://letters.test/{id}?page={id}"), parameters=ID),
        definition(http=get("http://[::1]:8080/", status_url="http://[::1]:9090/{call}")),
        definition(http=get("https://a.test/", status_url="https://b.test/{call}"), allowed_hosts=("a.test", "B.test")),
        definition(http=get("https://a.test/", headers={"Authorization": "Bearer ${secret:KEY}", "X-Version": "1"})),
        definition(mcp=Mcp(tool="Send.Letter", url="https://a.test/mcp", headers={"X-Key": "${secret:KEY}"})),
        definition(mcp=Mcp(tool="send", command=("server", "--stdio"))),
        definition(python=PYTHON, approval="when", approval_when='{"required": ["amount"]}'),
    ],
)
def test_a_definition_that_can_be_registered(right: Definition) -> None:
    assert check_definition(right) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (definition(python=PYTHON, name="Clock"), "name"),
        (definition(python=PYTHON, name="a" * 65), "name"),
        (definition(python=PYTHON, description=" "), "description is empty"),
        (definition(python=PYTHON, description="x" * 4097), "description is longer"),
        (definition(), "exactly one"),
        (definition(python=PYTHON, http=get("https://a.test/")), "exactly one"),
        (definition(python=PYTHON, parameters="{"), "parameters is not JSON"),
        (definition(python=PYTHON, parameters="[]"), "parameters is not an object"),
        (definition(python=PYTHON, parameters="{}"), 'parameters does not say "type": "object"'),
        (definition(python=PYTHON, parameters='{"type": "no"}'), "parameters is not a JSON Schema"),
        (definition(python=PYTHON, parameters=json.dumps({"type": "object", "title": "x" * 70_000})), "parameters is longer"),
        (definition(python=PYTHON, result='{"type": 7}'), "result is not a JSON Schema"),
        (definition(python=PYTHON, repeat="maybe"), "repeat"),
        (definition(python=PYTHON, approval="maybe"), "approval is"),
        (definition(python=PYTHON, approval="when"), "approval_when"),
        (definition(python=PYTHON, approval="always", approval_when="{}"), "approval_when"),
        (definition(python=PYTHON, approval="when", approval_when="no"), "approval_when is not JSON"),
        (definition(python=PYTHON, timeout_seconds=0), "timeout_seconds"),
        (definition(python=PYTHON, timeout_seconds=3601), "timeout_seconds"),
        (definition(python=PYTHON, attempts=11), "attempts"),
        (definition(python=PYTHON, concurrency=0), "concurrency"),
        (definition(python=PYTHON, cost_micros=-1), "cost_micros"),
        (definition(python=PYTHON, allowed_hosts=("https://a.test",)), "allowed_hosts"),
        (definition(python=PYTHON, allowed_hosts=("a.test",) * 65), "allowed_hosts"),
        (definition(python=Python(entry_point="os; rm")), "entry_point"),
        (definition(http=Http(method="TRACE", url="https://a.test/")), "http.method"),
        (definition(http=get("https://a.test/{id}")), "not among the properties"),
        (definition(http=get("https://{id}.test/"), parameters=ID), "in its host"),
        (definition(http=get("https://a.test/{id*}"), parameters=ID), "RFC 6570"),
        (definition(http=get("https://a.test/{id"), parameters=ID), "RFC 6570"),
        (definition(http=get("ftp://a.test/")), "is not an address"),
        (definition(http=get("https://user@a.test/")), "is not an address"),
        (definition(http=get("https://a.test:x/")), "is not an address"),
        (definition(http=get("https://a.test/${secret:KEY}")), "holds a secret"),
        (definition(http=get("https://a.test/" + "x" * 2048)), "http.url is longer"),
        (definition(http=get("https://a.test/"), allowed_hosts=("b.test",)), "does not hold the host"),
        (definition(http=get("https://a.test/", status_url="https://b.test/{call}")), "may not reach"),
        (definition(http=get("https://a.test/", status_url="https://a.test/")), "holds {call}"),
        (definition(http=get("https://a.test/", headers={"Host": "b.test"})), "set by the platform"),
        (definition(http=get("https://a.test/", headers={"a b": "c"})), "name of a header"),
        (definition(http=get("https://a.test/", headers={"a": "b\r\nc: d"})), "printable ASCII"),
        (definition(http=get("https://a.test/", headers={"a": "${secret:key}"})), "another form"),
        (definition(http=get("https://a.test/", headers={f"a{n}": "" for n in range(33)})), "more than 32"),
        (definition(mcp=Mcp(tool="send")), "exactly one of mcp.url and mcp.command"),
        (definition(mcp=Mcp(tool="send", url="https://a.test/", command=("a",))), "exactly one of mcp.url and mcp.command"),
        (definition(mcp=Mcp(tool="send", url="https://a.test/{id}"), parameters=ID), "holds arguments"),
        (definition(mcp=Mcp(tool="", url="https://a.test/")), "mcp.tool"),
        (definition(mcp=Mcp(tool="send", command=("a",), headers={"a": "b"})), "mcp.headers"),
    ],
)
def test_what_is_wrong_with_a_definition_is_said(wrong: Definition, said: str) -> None:
    found = check_definition(wrong)

    assert len(found) == 1
    assert said in found[0]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(check_definition(definition(name="No", attempts=0, repeat="maybe", parameters="no"))) == 5


def test_values_are_judged_in_words_that_name_the_place() -> None:
    schema = json.dumps({"type": "object", "properties": {"at": {"type": "array", "items": {"type": "integer"}}}, "required": ["to"]})

    assert problem(schema, {"at": [1, 2], "to": "me"}) is None
    assert problem(schema, {"at": [1, "x"]}) == 'the value: "to" is a required property\n/at/1: "x" is not of type "integer"'


def test_a_value_that_is_nested_without_end_is_refused_and_harms_nothing() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]

    assert problem('{"type": "object"}', {"x": value}) == "the value is nested deeper than 64"


def test_half_a_character_is_refused() -> None:
    assert "surrogate" in str(problem("{}", {"x": json.loads('"\\ud800"')}))


def test_a_pattern_that_goes_back_and_forth_ends() -> None:
    assert problem('{"pattern": "^(a|aa)+(?=b)$"}', "a" * 5_000) is not None


def test_a_schema_is_compiled_once() -> None:
    assert compiled(ID) is compiled(ID)


def test_parts_may_be_named_and_used() -> None:
    schema = (
        '{"$defs": {"name/s": {"type": "string"}}, "properties": {"to": {"$ref": "#/$defs/name~1s"}, "cc": {"$ref": "#/$defs/name~1s"}}}'
    )

    assert problem(schema, {"to": "me", "cc": "you"}) is None
    assert problem(schema, {"to": 7}) is not None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "http://127.0.0.1:1/schema"}, "only parts of the schema itself"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "only parts of the schema itself"),
        ({"$ref": "#"}, "only parts of the schema itself"),
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"$dynamicRef": "#a"}, "use \\$ref"),
        ({"properties": {"a": {"$id": "http://a.test/"}}}, "gives an \\$id"),
        ({"$schema": "http://127.0.0.1:1/meta"}, "not a JSON Schema"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "as deep as it is needed"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "as deep as it is needed"),
        (
            {"$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)} | {"a30": {}}},
            "references are written out",
        ),
        ({"pattern": "("}, "not a JSON Schema"),
    ],
)
def test_a_schema_that_leads_elsewhere_or_has_no_end_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSchema, match=said):
        compiled(json.dumps(schema))


@pytest.mark.parametrize("text", ['{"items":' * 200 + "{}" + "}" * 200, "[" * 100_000, '{"not":' * 8_000 + "1" + "}" * 8_000])
def test_a_schema_that_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(BadSchema):
        compiled(text)


def test_the_ways_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_TOOL_MCP_COMMANDS", "letters, /usr/bin/stamps")
    monkeypatch.setenv("SOMA_HTTP_GET_HOSTS", "a.test,")
    monkeypatch.setenv("SOMA_TOOL_MAX_RESULT_BYTES", "4096")

    opened = ways(load(beside_running=False))

    assert (opened.mcp_commands, opened.open_hosts, opened.max_bytes) == (("letters", "/usr/bin/stamps"), ("a.test",), 4096)
    assert isinstance(runner(definition(http=get("https://a.test/")), opened), HttpRunner)
