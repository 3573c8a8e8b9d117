"""Tools behind an HTTP address: how a call becomes a request, and what becomes of each answer."""

import asyncio
import gzip
import json
import logging
import tracemalloc
from typing import Any

import pytest

from schemas.types.tool import Http as Place
from streams.tools.http import Http
from streams.tools.running import Result
from streams.tools.secrets import Secrets
from tests.streams.tools.making import call, definition, ways
from tests.streams.tools.server import Journal, hangs, pours, says, serving


def http(url: str, method: str = "GET", *, headers: dict[str, str] | None = None, status_url: str | None = None, **ways_: Any) -> Http:
    place = Place(method=method, url=url, headers=headers or {}, status_url=status_url)
    return Http(definition(http=place), place, ways(**ways_))


def secret(**values: str) -> Secrets:
    return Secrets(None, {f"SOMA_SECRET_{name}": value for name, value in values.items()})


async def test_arguments_fill_the_address_and_the_rest_is_the_query_of_a_get() -> None:
    async with serving({"/letters/a%2Fb": says("found")}) as server:
        tool = http(server.url("/letters/{id}"))

        result = await tool.run(call(id="a/b", page=2, tags=["x", "y"], deep={"a": 1}))

    assert result == Result("ok", b"found")
    assert server.requests[0].target == "/letters/a%2Fb?page=2&tags=x&tags=y&deep=%7B%22a%22%3A1%7D"
    assert server.requests[0].headers["idempotency-key"] == "call-1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_the_rest_is_the_body_of_what_has_one(method: str) -> None:
    async with serving({"/letters/7": says('{"sent": true}', "201 Created")}) as server:
        result = await http(server.url("/letters/{id}"), method).run(call(id=7, text="dear reader"))

    assert result == Result("ok", b'{"sent": true}')
    assert json.loads(server.requests[0].body) == {"text": "dear reader"}
    assert server.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_arguments_that_cannot_be_sent_are_an_error(method: str) -> None:
    async with serving({}) as server:
        result = await http(server.url("/"), method).run(call(text="\ud800"))

    assert (result.outcome, result.retry, result.fault) == ("error", False, False)


async def test_an_argument_cannot_climb_out_of_its_place() -> None:
    async with serving({}) as server:
        result = await http(server.url("/letters/{id}/text")).run(call(id=".."))

    assert result.outcome == "error"
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "retry"),
    [("400 Bad Request", False), ("404 Not Found", False), ("429 Slow Down", True), ("500 Oh", True), ("503 Away", True)],
)
async def test_a_refusal_is_no_fault_of_the_tool_and_a_failure_is(status: str, retry: bool) -> None:
    async with serving({"/": says("because", status)}) as server:
        result = await http(server.url("/")).run(call())

    assert result == Result("error", f"HTTP {status[:3]}: because".encode(), retry=retry, fault=retry)


async def test_a_server_that_is_not_there_may_come_back() -> None:
    async with serving({}) as server:
        pass

    result = await http(server.url("/")).run(call())

    assert (result.outcome, result.retry, result.fault) == ("error", True, True)
    assert b"cannot be reached" in result.content


async def test_a_server_that_dies_while_it_answers() -> None:
    async def dies(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    async with serving({"/": dies}) as server:
        result = await http(server.url("/")).run(call())

    assert (result.outcome, result.retry, result.fault) == ("error", True, True)


async def test_a_server_that_does_not_speak_http() -> None:
    async def babbles(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff garbage\r\n\r\n")

    async with serving({"/": babbles}) as server:
        result = await http(server.url("/")).run(call())

    assert result.fault
    assert b"does not speak HTTP" in result.content


async def test_an_answer_that_is_no_text_is_an_error_that_says_so() -> None:
    async with serving({"/": says(b"\xff\xfe\x00")}) as server:
        result = await http(server.url("/")).run(call())

    assert result == Result("error", b"HTTP 200: the answer is not UTF-8 text")


async def test_a_tool_that_hangs_is_left_when_its_time_is_over() -> None:
    async with serving({"/": hangs}) as server:
        result = await http(server.url("/")).run(call(seconds=0.3))

        assert result == Result("error", b"no answer within 0.3 s", retry=True, fault=True, unsure=True)
        await server.gone.wait()


async def test_cancelling_a_call_drops_its_request() -> None:
    async with serving({"/": hangs}) as server:
        running = asyncio.create_task(http(server.url("/")).run(call()))
        await server.asked.wait()

        running.cancel()

        await server.gone.wait()


async def test_an_answer_without_an_end_takes_no_memory() -> None:
    async with serving({"/": pours}) as server:
        tracemalloc.start()
        try:
            result = await http(server.url("/"), max_bytes=1 << 20).run(call())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await server.gone.wait()

    assert result == Result("error", b"the answer is longer than 1048576 bytes")
    assert most < 10 << 20


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with serving({"/": says(gzip.compress(b"x" * 10_000_000), content_encoding="gzip")}) as server:
        result = await http(server.url("/")).run(call())

    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert b"compressed" in result.content


async def test_a_secret_goes_to_the_server_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving({"/": says("you said Bearer hunter2, did you"), "/no": says("not with hunter2", "403 No")}) as server:
        key = {"Authorization": "Bearer ${secret:KEY}"}
        results = [await http(server.url(path), headers=key, secrets=secret(KEY="hunter2")).run(call()) for path in ("/", "/no")]

    assert server.requests[0].headers["authorization"] == "Bearer hunter2"
    assert results == [Result("ok", b"you said Bearer [secret KEY], did you"), Result("error", b"HTTP 403: not with [secret KEY]")]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("value", [None, "two\nlines", "schlüssel"])
async def test_a_secret_that_cannot_be_used_is_named_and_not_shown(value: str | None) -> None:
    async with serving({}) as server:
        secrets = secret(KEY=value) if value else secret()
        result = await http(server.url("/"), headers={"X-Key": "${secret:KEY}"}, secrets=secrets).run(call())

    assert (result.outcome, result.fault) == ("error", True)
    assert b"the secret KEY" in result.content
    assert not value or value.encode() not in result.content
    assert server.requests == []


async def test_what_a_tool_tells_one_call_the_next_one_does_not_tell_it() -> None:
    async with serving({"/": says("hello", set_cookie="session=one")}) as server:
        tool = http(server.url("/"))
        await tool.run(call())
        await tool.run(call())

    assert "cookie" not in server.requests[1].headers


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving({"/": says("direct")}) as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        assert await http(server.url("/")).run(call()) == Result("ok", b"direct")


@pytest.fixture
async def book() -> Any:
    answers = {
        "/done": says("it is done"),
        "/running": says("", "202 Accepted"),
        "/lost": says("", "404 Not Found"),
        "/away": says("", "503 No"),
        "/failed": says("no money", "422 No"),
        "/barred": says("who are you", "401 No"),
    }
    async with serving(answers) as server:
        yield server


@pytest.mark.parametrize(
    ("call_id", "result"),
    [
        ("done", Result("ok", b"it is done")),
        ("running", Result("error", b"the call has not ended", retry=True)),
        ("lost", None),
        ("away", Result("error", b"HTTP 503", retry=True, fault=True)),
        ("failed", Result("error", b"HTTP 422: no money")),
        ("barred", Result("error", b"HTTP 401: who are you", retry=True)),
    ],
)
async def test_the_status_address_says_how_a_call_ended(book: Journal, call_id: str, result: Result | None) -> None:
    tool = http(book.url("/"), "POST", status_url=book.url("/{call}"))

    assert await tool.status(call_id) == result


async def test_without_a_status_address_nothing_is_known() -> None:
    assert await http("http://127.0.0.1:1/").status("call-1") is None
