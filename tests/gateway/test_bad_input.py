"""Whatever is sent is answered by a problem document that says what to do."""

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from ops.settings import Settings
from tests.gateway.platform import Gateway, Platform

pytestmark = pytest.mark.asyncio(loop_scope="module")
JSON = {"Content-Type": "application/json"}
NOBODY = "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000"
DEEP = b"[" * 100_000


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The document, after a look at what all of them have in common."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"], document["type"]) == (status, code, f"/problems/{code}")
    assert all(document[member] for member in ("title", "detail", "advice"))
    assert "Traceback" not in answer.text
    return document


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (DEEP, 400, "malformed"),
        (b"1" * 5_000, 400, "malformed"),
        (b'"text"', 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"model": "echo", "unknown": 1}', 422, "invalid"),
        (b'{"model": 1}', 422, "invalid"),
        (b'{"model": ""}', 422, "invalid"),
        (b'{"model": "nobody"}', 422, "unknown_model"),
        (b'{"model": "echo", "input": ""}', 422, "invalid"),
        (b'{"model": "echo", "input": "\\ud800"}', 422, "invalid"),
        (json.dumps({"model": "echo", "input": "x" * 131_073}).encode(), 422, "invalid"),
        (json.dumps({"model": "echo", "input": "ä" * 65_537}, ensure_ascii=False).encode(), 422, "invalid"),
        (b'{"model": "echo", "metadata": {"a": 1}}', 422, "invalid"),
        (json.dumps({"model": "echo", "metadata": {"k" * 65: "v"}}).encode(), 422, "invalid"),
        (json.dumps({"model": "echo", "metadata": {"k": "v" * 513}}).encode(), 422, "invalid"),
        (json.dumps({"model": "echo", "metadata": {str(n): "" for n in range(17)}}).encode(), 422, "invalid"),
        (b'{"model": "echo", "metadata": {"": "v"}}', 422, "invalid"),
        (b" " * (256 << 10) + b"{}", 413, "too_large"),
    ],
)
async def test_a_body_that_cannot_be_used(client: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    document = problem(await client.post("/v1/sessions", content=body, headers=JSON), status, code)
    assert ("errors" in document) == (code == "invalid")


async def test_the_fields_that_are_wrong_are_named(client: httpx.AsyncClient) -> None:
    document = problem(await client.post("/v1/sessions", json={"input": 1, "more": 2}), 422, "invalid")
    assert sorted(error["field"] for error in document["errors"]) == ["body.input", "body.more"]


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_actions_take_no_body_or_an_empty_one(client: httpx.AsyncClient, body: bytes) -> None:
    session = (await client.post("/v1/sessions", json={"model": "echo"})).json()
    assert (await client.post(f"/v1/sessions/{session['id']}/cancel", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "not_json"),
        ({}, 415, "not_json"),
        ({**JSON, "Idempotency-Key": ""}, 422, "invalid"),
        ({**JSON, "Idempotency-Key": "k" * 256}, 422, "invalid"),
        ({**JSON, "Idempotency-Key": "session:1"}, 400, "malformed"),
    ],
)
async def test_a_header_that_cannot_be_used(client: httpx.AsyncClient, headers: dict[str, str], status: int, code: str) -> None:
    problem(await client.post("/v1/sessions", content=b'{"model": "echo"}', headers=headers), status, code)


@pytest.mark.parametrize("tag", ["latest", '"x"', '"²"', '"9999999999999999999"', ""])
async def test_a_version_that_cannot_be_expected(client: httpx.AsyncClient, tag: str) -> None:
    problem(await client.post(f"/v1/sessions/{NOBODY}/close", headers=[(b"If-Match", tag.encode("latin-1"))]), 400, "malformed")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/v1/sessions", 405, "method_not_allowed"),
        ("GET", "/v1/sessions/nobody", 404, "not_found"),
        ("GET", f"/v1/sessions/{NOBODY}", 404, "not_found"),
        ("GET", "/v1/sessions/ffffffff-ffff-7fff-bfff-ffffffffffff", 404, "not_found"),
        ("POST", f"/v1/sessions/{NOBODY}/close", 404, "not_found"),
        ("GET", f"/v1/sessions/{NOBODY}/events", 404, "not_found"),
        ("GET", f"/v1/sessions/{NOBODY}?position=here", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}?position=9999:1", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}?as_of=", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}?as_of=yesterday", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}?as_of=2026-01-31T12:00:00", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}?as_of=1:0", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}/events?after=0:1", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}/events?after=e1-1", 400, "malformed"),
        ("GET", f"/v1/sessions/{NOBODY}/events?limit=0", 422, "invalid"),
        ("GET", "/v1/sessions?cursor=AAAA", 400, "malformed"),
        ("GET", "/v1/sessions?status=asleep", 422, "invalid"),
        ("GET", "/v1/sessions?metadata=team", 400, "malformed"),
        ("GET", "/v1/sessions?limit=501", 422, "invalid"),
        ("GET", "/v1/sessions?created_after=2026-01-01T00:00:00", 400, "malformed"),
        ("GET", "/problems/none", 404, "not_found"),
    ],
)
async def test_an_address_that_cannot_be_used(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    problem(await client.request(method, path), status, code)


async def test_a_body_that_grows_too_large_in_pieces(client: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(300):
            yield b" " * 1024

    problem(await client.post("/v1/sessions", content=pieces(), headers=JSON), 413, "too_large")


async def test_a_problem_is_explained_where_its_type_points(client: httpx.AsyncClient) -> None:
    document = problem(await client.get("/nowhere"), 404, "not_found")
    assert document["advice"] in (await client.get(document["type"])).text


async def test_an_id_written_in_another_way_names_the_same_session(client: httpx.AsyncClient) -> None:
    session = (await client.post("/v1/sessions", json={"model": "echo"})).json()
    answer = await client.post(f"/v1/sessions/{session['id'].upper().replace('-', '')}/messages", json={"input": "hi"})
    assert (answer.status_code, answer.json()["id"]) == (200, session["id"])


@pytest.mark.parametrize("setting", ["gateway_max_in_flight", "gateway_tenant_max_in_flight"])
async def test_too_many_writes_at_once_are_turned_away(module_settings: Settings, platform: Platform, setting: str) -> None:
    # given
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = module_settings.model_copy(update={setting: 1, "gateway_port": port})
    platform.worker.replying.clear()
    async with Gateway(settings) as gateway:
        await gateway.until_healthy()
        first = gateway.client.build_request("POST", "/v1/sessions", json={"model": "echo", "input": "hello"}, headers={"Prefer": "wait=3"})
        waiting = asyncio.create_task(gateway.client.send(first))
        # when
        while (await gateway.client.get("/metrics")).text.find("soma_writes_in_flight 1.0") < 0:
            await asyncio.sleep(0.01)
        answer = await gateway.client.post("/v1/sessions", json={"model": "echo"})
        # then
        problem(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert (await waiting).status_code == 202
    platform.worker.replying.set()
