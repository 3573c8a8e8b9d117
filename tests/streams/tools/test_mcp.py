"""Tools of a real MCP server, over both of its transports."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ops.embedded.process import free_port
from schemas.types.tool import Mcp as Place
from streams.tools.checks import check_definition
from streams.tools.connection import Gone
from streams.tools.egress import Guard
from streams.tools.mcp import Mcp, list_tools
from streams.tools.running import Result, Ways
from streams.tools.secrets import Secrets
from tests.streams.tools import mcp_server
from tests.streams.tools.making import OPEN, call, definition, ways

PROGRAM = (sys.executable, str(Path(mcp_server.__file__)))
WAYS = ways(mcp_commands=(sys.executable,), secrets=Secrets(None, {"SOMA_SECRET_KEY": "hunter2"}), max_bytes=100_000)


class Server:
    """The server as a process on a port of its own, which can go and come back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        self._process = subprocess.Popen([*PROGRAM, str(self.port)], stderr=subprocess.DEVNULL)
        while self._process.poll() is None:
            try:
                httpx.get(self.url, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            return

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


@pytest.fixture(params=["stdio", "http"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "stdio":
        return Place(tool="", command=PROGRAM)
    return Place(tool="", url=request.getfixturevalue("server").url)


@asynccontextmanager
async def mcp(place: Place, tool: str, ways: Ways = WAYS, headers: dict[str, str] | None = None) -> AsyncIterator[Mcp]:
    place = Place(tool=tool, url=place.url, command=place.command, headers=headers or {})
    runner = Mcp(definition(mcp=place), place, ways)
    try:
        yield runner
    finally:
        await runner.close()


async def test_what_a_tool_answers_in_structure_is_json(place: Place) -> None:
    async with mcp(place, "add") as tool:
        results = await asyncio.gather(*(tool.run(call(a=n, b=1)) for n in range(3)))

    assert results == [Result("ok", f'{{"result":{n + 1}}}'.encode()) for n in range(3)]


async def test_a_call_carries_its_id_and_the_connection_is_kept(place: Place) -> None:
    async with mcp(place, "Send.Letter") as tool:
        first, second = await tool.run(call()), await tool.run(call())

    assert first == second
    assert first.content.split()[1:] == [b"call-1", b"None"]


async def test_a_picture_is_json_too(server: Server) -> None:
    async with mcp(Place(tool="", url=server.url), "picture") as tool:
        result = await tool.run(call())

    assert result == Result("ok", b'[{"type":"image","data":"ZG90cw==","mimeType":"image/png"}]')


@pytest.mark.parametrize("tool", ["fails", "no-such-tool"])
async def test_what_a_tool_refuses_is_no_fault_of_it(server: Server, tool: str) -> None:
    async with mcp(Place(tool="", url=server.url), tool) as runner:
        result = await runner.run(call())

    assert (result.outcome, result.retry, result.fault) == ("error", False, False)
    assert result.content


async def test_an_answer_has_a_bound(place: Place) -> None:
    async with mcp(place, "talks") as tool:
        result = await tool.run(call())

    assert (result.outcome, result.retry) == ("error", False)
    assert b"longer than 100000 bytes" in result.content


async def test_a_tool_that_hangs_is_left_and_the_next_call_finds_a_server(place: Place) -> None:
    async with mcp(place, "hangs") as tool:
        for _ in range(2):
            assert await tool.run(call(seconds=1.5)) == Result("error", b"no answer within 1.5 s", retry=True, fault=True, unsure=True)


async def test_a_program_that_ends_is_started_again_with_the_next_call() -> None:
    async with mcp(Place(tool="", command=PROGRAM), "dies") as tool:
        for _ in range(2):
            assert await tool.run(call()) == Result("error", b"the connection to the server broke", retry=True, fault=True, unsure=True)


async def test_a_server_that_went_is_found_again_when_it_is_back() -> None:
    server = Server()
    try:
        async with mcp(Place(tool="", url=server.url), "add") as tool:
            before = await tool.run(call(a=1, b=1))
            server.stop()
            away = await tool.run(call(a=1, b=1))
            server.start()
            back = await tool.run(call(a=1, b=1))
    finally:
        server.stop()

    assert before == back == Result("ok", b'{"result":2}')
    assert (away.outcome, away.retry, away.fault) == ("error", True, True)


async def test_headers_with_secrets_reach_the_server_and_not_the_result(server: Server) -> None:
    async with mcp(Place(tool="", url=server.url), "header", headers={"X-Key": "${secret:KEY}"}) as tool:
        assert await tool.run(call()) == Result("ok", b"[secret KEY]")

    async with mcp(Place(tool="", url=server.url), "header", headers={"X-Key": "${secret:OTHER}"}) as tool:
        result = await tool.run(call())
    assert (result.outcome, result.fault) == ("error", True)


async def test_a_server_at_a_private_address_is_not_reached(server: Server) -> None:
    async with mcp(Place(tool="", url=server.url), "add", ways(Guard())) as tool:
        result = await tool.run(call(a=1, b=1))

    assert (result.outcome, result.retry, result.fault) == ("error", False, False)
    assert b"SOMA_TOOL_PRIVATE_HOSTS" in result.content


async def test_a_program_that_the_settings_do_not_list_is_not_started(tmp_path: Path) -> None:
    command = ("/bin/sh", "-c", f"touch {tmp_path}/started")
    async with mcp(Place(tool="", command=command), "add") as tool:
        result = await tool.run(call())

    assert result == Result("error", b"the program /bin/sh may not be started: list it in SOMA_TOOL_MCP_COMMANDS")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("program", ["/no/such/program", "/bin/cat", "/bin/true"])
async def test_a_program_that_is_no_server_is_a_fault(program: str) -> None:
    async with mcp(Place(tool="", command=(program,)), "add", ways(mcp_commands=(program,))) as tool:
        result = await tool.run(call(seconds=1))

    assert (result.outcome, result.retry, result.fault) == ("error", True, True)


async def test_a_servers_tools_can_be_registered(place: Place) -> None:
    found = {tool.name: tool for tool in await list_tools(place, WAYS)}

    assert {name: check_definition(tool) for name, tool in found.items() if check_definition(tool)} == {}
    assert (found["add"].repeat, found["add"].approval, found["add"].description) == ("safe", "never", "Adds.")
    assert (found["send_letter"].repeat, found["send_letter"].approval) == ("never", "always")
    sent = found["send_letter"].mcp
    assert sent == Place(tool="Send.Letter", url=place.url, command=place.command)


async def test_the_tools_of_a_server_that_is_not_there() -> None:
    with pytest.raises(Gone, match="cannot be reached"):
        await list_tools(Place(tool="", url=f"http://127.0.0.1:{free_port()}/"), ways(OPEN))
