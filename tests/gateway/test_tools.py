"""Tools through a gateway and the worker that users run."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.v1.named_shapes import NamedAccepted
from gateway.v1.tool_shapes import Http, Tool, ToolList
from ops.embedded.process import free_port
from ops.settings import Settings
from streams.tools.ship import ship
from tests.faults.cluster import Process
from tests.gateway.platform import Gateway, Platform, deciding

pytestmark = pytest.mark.asyncio(loop_scope="module")


def definition(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": "Adds.", "parameters": {"type": "object"}, "python": {"entry_point": "adder"}, **more}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    """`soma worker`, which decides what is asked of tools."""
    async with deciding(module_settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        yield worker


@pytest.fixture
def tools(platform: Platform, worker: Process) -> httpx.AsyncClient:
    return platform.client


async def register(tools: httpx.AsyncClient, name: str, **more: Any) -> Tool:
    answer = await tools.post("/v1/tools", json=definition(name, **more))
    assert answer.status_code == 201, answer.text
    return Tool.model_validate_json(answer.content)


async def test_a_tool_is_registered_and_read_and_each_version_stays(tools: httpx.AsyncClient) -> None:
    # when
    answer = await tools.post("/v1/tools", json=definition("adder", result={"type": "number"}, allowed_hosts=["example.org"]))
    # then
    assert answer.status_code == 201, answer.text
    tool = Tool.model_validate_json(answer.content)
    assert (tool.name, tool.version, tool.status, tool.repeat, tool.timeout_seconds) == ("adder", 1, "offered", "never", 30)
    assert (tool.parameters, tool.result, tool.allowed_hosts, tool.breaker.status) == (
        {"type": "object"},
        {"type": "number"},
        ["example.org"],
        "closed",
    )
    assert (answer.headers["location"], answer.headers["soma-position"]) == ("/v1/tools/adder", tool.position)
    # when there is another version
    second = await register(tools, "adder", description="Adds two.")
    # then both can be read
    assert (second.version, second.result) == (2, None)
    assert (await tools.get("/v1/tools/adder", params={"position": second.position})).json() == second.model_dump(mode="json") | {
        "created_at": tool.model_dump(mode="json")["created_at"]
    }
    first = (await tools.get("/v1/tools/adder", params={"version": 1})).json()
    assert (first["version"], first["newest"], first["description"]) == (1, 2, "Adds.")
    assert (await tools.get("/v1/tools/adder", params={"version": 3})).status_code == 404


async def test_what_is_registered_already_is_no_new_version(tools: httpx.AsyncClient) -> None:
    await register(tools, "same")
    again = await tools.post("/v1/tools", json=definition("same"))
    assert (again.status_code, again.json()["version"], again.headers.get("idempotency-replayed")) == (200, 1, None)


async def test_the_same_key_gives_the_first_answer_and_another_body_is_refused(tools: httpx.AsyncClient) -> None:
    # given
    key = {"Idempotency-Key": "register-1"}
    first = await tools.post("/v1/tools", json=definition("keyed"), headers=key)
    await register(tools, "keyed", description="Adds two.")
    # when
    again = await tools.post("/v1/tools", json=definition("keyed"), headers=key)
    # then
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    for body in (definition("keyed", description="Other."), definition("another-name")):
        reused = await tools.post("/v1/tools", json=body, headers=key)
        assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")


async def test_a_retired_tool_is_listed_on_demand_and_can_be_restored(tools: httpx.AsyncClient) -> None:
    await register(tools, "retiring")
    # when
    retired = await tools.delete("/v1/tools/retiring", params={"reason": "unsafe"})
    # then
    assert (retired.status_code, retired.json()["status"]) == (200, "retired")
    assert (await tools.delete("/v1/tools/retiring")).json()["status"] == "retired", "once more changes nothing"
    assert "retiring" not in await names(tools)
    assert "retiring" in await names(tools, retired="true")
    assert (await tools.get("/v1/tools/retiring")).json()["status"] == "retired"
    # when
    restored = await tools.post("/v1/tools/retiring/restore")
    # then
    assert (restored.status_code, restored.json()["status"]) == (200, "offered")
    assert "retiring" in await names(tools)


async def names(tools: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await tools.get("/v1/tools", params=query)
    return [tool.name for tool in ToolList.model_validate_json(answer.content).tools]


async def test_tools_are_listed_by_pages(tools: httpx.AsyncClient) -> None:
    made = [await register(tools, f"page-{letter}") for letter in "cab"]
    seen, query = list[str](), {"limit": "2", "position": made[-1].position}
    while True:
        page = ToolList.model_validate_json((await tools.get("/v1/tools", params=query)).content)
        seen += [tool.name for tool in page.tools]
        if page.next_cursor is None:
            break
        query["cursor"] = page.next_cursor
    assert seen == sorted(seen)
    assert {"page-a", "page-b", "page-c"} <= set(seen)
    assert (await tools.get("/v1/tools", params={"cursor": "No Name"})).json()["code"] == "malformed"


async def test_what_there_is_not_is_not_found(tools: httpx.AsyncClient) -> None:
    answers = [
        await tools.get("/v1/tools/none"),
        await tools.delete("/v1/tools/none"),
        await tools.post("/v1/tools/none/restore"),
        await tools.delete("/v1/tools/No%20Name"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 4


async def test_whoever_does_not_want_to_wait_reads_with_the_position(tools: httpx.AsyncClient) -> None:
    answer = await tools.post("/v1/tools", json=definition("later"), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    accepted = NamedAccepted.model_validate_json(answer.content)
    assert answer.headers["preference-applied"] == "respond-async"
    read = await tools.get(answer.headers["location"], params={"position": accepted.position})
    assert (read.status_code, read.json()["position"]) == (200, accepted.position)
    ahead = {"position": "0:999999"}
    strict = await tools.get("/v1/tools/later", params=ahead, headers={"Prefer": "wait=0"})
    lenient = await tools.get("/v1/tools/later", params=ahead, headers={"Prefer": "wait=0, handling=lenient"})
    assert (strict.status_code, strict.json()["code"], lenient.status_code) == (503, "not_yet", 200)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "No Name"}, "body.name"),
        ({"description": "é" * 2049}, "body.description"),
        ({"parameters": {"type": "objekt"}}, "body.parameters"),
        ({"parameters": {"$ref": "https://example.com/schema"}}, "body.parameters"),
        ({"parameters": {"description": "x" * 65_536}}, "body.parameters"),
        ({"parameters": "{}"}, "body.parameters"),
        ({"http": {"method": "GET", "url": "https://example.org"}}, "body"),
        ({"python": None}, "body"),
        ({"python": None, "http": {"method": "BREW", "url": "https://example.org"}}, "body.http.method"),
        ({"python": None, "http": {"method": "GET", "url": "ftp://example.org"}}, "body.http.url"),
        ({"python": None, "mcp": {"tool": "add"}}, "body.mcp"),
        ({"approval": "when"}, "body"),
        ({"repeat": "often"}, "body.repeat"),
        ({"timeout_seconds": 0}, "body.timeout_seconds"),
        ({"attempts": 11}, "body.attempts"),
        ({"colour": "red"}, "body.colour"),
    ],
)
async def test_a_definition_that_cannot_be_used_is_refused_by_field(tools: httpx.AsyncClient, wrong: dict[str, Any], field: str) -> None:
    answer = await tools.post("/v1/tools", json=definition("wrong") | wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_each_kind_of_tool_is_kept_as_it_was_written(tools: httpx.AsyncClient) -> None:
    http = {"method": "POST", "url": "https://example.org/{x}", "headers": {"X-Key": "${secret:KEY}"}, "status_url": None}
    mcp: dict[str, Any] = {"tool": "add", "url": None, "command": ["server", "--stdio"], "headers": {}}
    when = {"approval": "when", "approval_when": {"required": ["x"]}}
    for name, where in (("by-http", {"http": http}), ("by-mcp", {"mcp": mcp})):
        tool = await register(tools, name, python=None, **where, **when)
        shown = (await tools.get(f"/v1/tools/{name}", params={"position": tool.position})).json()
        assert {key: shown[key] for key in [*where, *when]} == {**where, **when}


async def test_every_tool_that_is_shipped_can_be_registered(platform: Platform, tools: httpx.AsyncClient) -> None:
    # when
    registered = await asyncio.to_thread(ship, str(tools.base_url))
    # then
    assert registered == ["clock", "calculator", "http_get"]
    answer = await tools.get("/v1/tools/http_get")
    assert Tool.model_validate_json(answer.content).http == Http(method="GET", url="{+url}", headers={})
    # and once they are there, they stay as they are
    assert await asyncio.to_thread(ship, str(tools.base_url)) == []


@pytest.mark.parametrize("url", ["{+other}", "{+url}/more", "https://example.org/\n{+url}", "{url}", "x{+url}"])
async def test_an_address_is_an_argument_whole_or_not_at_all(tools: httpx.AsyncClient, url: str) -> None:
    answer = await tools.post("/v1/tools", json={**definition("roams"), "python": None, "http": {"method": "GET", "url": url}})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.http.url"), answer.text


async def test_another_gateway_knows_the_same_tools(platform: Platform, tools: httpx.AsyncClient, unused_port: int) -> None:
    tool = await register(tools, "shared")
    async with Gateway(platform.settings.model_copy(update={"gateway_port": unused_port})) as other:
        await other.until_healthy()
        assert (await other.client.get("/v1/tools/shared")).json()["position"] == tool.position


@pytest.fixture
def unused_port() -> int:
    return free_port()


async def test_a_write_while_nobody_decides_is_accepted_and_done_once_somebody_does(tools: httpx.AsyncClient, worker: Process) -> None:
    # given that the worker is gone
    await worker.stop()
    key = {"Idempotency-Key": "while-away", "Prefer": "wait=1"}
    accepted = await tools.post("/v1/tools", json=definition("patient"), headers=key)
    assert accepted.status_code == 202
    # when it comes back
    await worker.start()
    async with asyncio.timeout(60):
        while (answer := await tools.post("/v1/tools", json=definition("patient"), headers=key)).status_code != 201:
            pass
    # then it was done once
    assert (answer.json()["version"], answer.json()["position"]) == (1, accepted.json()["position"])
