"""A connection that asks for nothing, or never ends asking, is closed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway import patience
from gateway.patience import HEADER_BYTES, Impatient
from ops.embedded.process import free_port

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.5)
    config = uvicorn.Config(hello, port=free_port(), http=Impatient, lifespan="off", log_config=None, timeout_keep_alive=60)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield config.port
    server.should_exit = True
    await serving


@pytest.mark.parametrize("begun", [b"", b"GET", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_request_that_does_not_come_is_not_waited_for(port: int, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    assert await reader.read() == b""
    writer.close()


async def test_headers_that_trickle_in_are_not_waited_for_either(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(WHOLE[:-2])
    ended = asyncio.create_task(reader.read())
    while not ended.done():
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.05)
    assert b"200" not in ended.result()
    writer.close()


async def test_a_connection_that_is_kept_open_between_requests_is_left_to_the_server(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(WHOLE)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(1.0)
    writer.close()


@pytest.mark.parametrize("large", [b"GET /" + b"x" * HEADER_BYTES, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEADER_BYTES // 2)])
async def test_headers_have_bounds(port: int, large: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(large)
    assert (await reader.readline()).startswith(b"HTTP/1.1 431")
    writer.close()
