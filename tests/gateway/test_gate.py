"""Nothing answers a stranger, whatever the address or the headers are made to look like, and nobody is answered without end.

What is tried on every route is in test_matrix.py.
"""

import asyncio
import logging
import time
from urllib.parse import quote

import httpx
import pytest

from gateway.credentials import OPEN
from ops.embedded.process import free_port
from ops.settings import Settings
from tests.faults.cluster import Process
from tests.gateway.closed import client, closed, gateway, provider, raw, signed_in, worker
from tests.gateway.platform import Gateway
from tests.gateway.provider import Provider
from tests.gateway.signing import EC, RSA, SECRET, bearer, hs256, saying, token
from tests.gateway.test_token import ATTACKS

pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["client", "closed", "gateway", "provider", "worker"]


@pytest.fixture
def ada(provider: Provider) -> dict[str, str]:
    """The header of a caller of the tenant acme."""
    return signed_in(provider)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
@pytest.mark.parametrize(
    "path",
    [
        "//v1/sessions",
        "/v1//sessions",
        "/v1/sessions/",
        "/V1/SESSIONS",
        "/v1/%73essions",
        "/v1/sessions%00",
        "/v1/sessions%0d%0aX: y",
        "/health/../v1/sessions",
        "/health/%2e%2e/v1/sessions",
        "/health%2f..%2fv1%2fsessions",
        "/health/live/../../metrics",
        "/health/",
        "/Health",
        "//health",
        "/health%0a",
        "/health%00",
        "/health;/v1/sessions",
        "/v1/health/",
        "/v1/v1/health",
        "/docs/../metrics",
        "/docs/oauth2-redirect",
        "/redoc",
        "/openapi.json/",
        "/problems/",
        "/problems/../metrics",
        "/problems/%2e%2e%2fmetrics",
        "/problems/BUSY",
        "/nothing",
        "/",
        "/consoles",
        "//console",
        "/Console",
        "http://localhost/v1/sessions",
    ],
)
async def test_no_address_that_is_made_to_look_otherwise_is_answered(gateway: Gateway, method: str, path: str) -> None:
    answer = await raw(gateway, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")), answer


async def test_a_known_caller_is_told_what_is_not_there(client: httpx.AsyncClient, ada: dict[str, str]) -> None:
    assert (await client.get("/nothing", headers=ada)).status_code == 404
    assert (await client.put("/v1/sessions", headers=ada)).status_code == 405


async def test_a_token_of_a_stranger_is_refused_with_what_is_wrong(client: httpx.AsyncClient, provider: Provider) -> None:
    answer = await client.get("/v1/sessions", headers=bearer(token(saying(iss=provider.issuer, exp=int(time.time()) - 1))))
    assert answer.status_code == 401
    assert 'error="invalid_token", error_description="The token does not hold here: expired_token' in answer.headers["www-authenticate"]
    assert answer.json()["advice"]


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "Token {}", "{}", "Bearer {}, Bearer {}", "Bearer {} {}", "Bearer\t{}"])
async def test_another_form_of_the_header_is_none(client: httpx.AsyncClient, provider: Provider, header: str) -> None:
    good = token(saying(iss=provider.issuer))
    assert (await client.get("/v1/sessions", headers={"Authorization": header.replace("{}", good)})).status_code == 401


async def test_two_headers_are_refused_whichever_is_good(client: httpx.AsyncClient, ada: dict[str, str]) -> None:
    for both in ([("Authorization", "Bearer x"), *ada.items()], [*ada.items(), ("authorization", "Bearer x")], [*ada.items()] * 2):
        answer = await client.get("/v1/sessions", headers=both)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
        assert 'error="invalid_request"' in answer.headers["www-authenticate"]


async def test_a_token_counts_nowhere_but_in_the_header(gateway: Gateway, client: httpx.AsyncClient, provider: Provider) -> None:
    good = token(saying(iss=provider.issuer))
    assert (await client.get("/v1/sessions", params={"access_token": good, "token": good})).status_code == 401
    assert (await client.get("/v1/sessions", headers={"Cookie": f"access_token={good}", "X-Api-Key": good})).status_code == 401
    assert (await client.post("/v1/sessions", data={"access_token": good})).status_code == 401
    for smuggled in (f"X: y\rAuthorization: Bearer {good}", f"Authorization : Bearer {good}", f"X: y\r\n Authorization: Bearer {good}"):
        answer = await raw(gateway, f"GET /v1/sessions HTTP/1.1\r\nHost: x\r\n{smuggled}\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")), answer


SMUGGLED = "GET /v1/tools HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Content-Length: 4\r\nContent-Length: 200",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length: 4, 200",
        "Content-Length: -1",
        "X: y\r\n Content-Length: 4",
        "X: y\nContent-Length: 4",
        "X: y\rContent-Length: 4",
        "X: y\x00z",
    ],
    ids=ascii,
)
async def test_a_request_of_which_two_readers_could_think_otherwise_is_read_by_nobody(
    gateway: Gateway, ada: dict[str, str], framing: str
) -> None:
    # given a body that another reader would take for a request of its own, under somebody's name
    credential = ada["Authorization"]
    body = f"0\r\n\r\n{SMUGGLED.format(credential)}"
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: {credential}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    # when
    answer = await raw(gateway, (head + body).encode())
    # then one of them is answered, by what says that it cannot be read, and nothing after it
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("value", ["k\r\nSet-Cookie: x=y", "k\nX: y", "k\r X: y", "\u2028", "k\x00"], ids=ascii)
async def test_nothing_that_a_caller_writes_begins_a_header_of_an_answer(
    client: httpx.AsyncClient, ada: dict[str, str], value: str
) -> None:
    for path in (f"/v1/tools/{quote(value, safe='')}", f"/v1/audit/{quote(value, safe='')}", f"/problems/{quote(value, safe='')}"):
        answer = await client.get(path, headers=ada)
        assert answer.status_code in (404, 422), path
        assert not {"set-cookie", "x"} & set(answer.headers)
    answer = await client.get("/v1/sessions", params={"cursor": value, "model": value, "metadata": f"team={value}"}, headers=ada)
    assert answer.status_code in (200, 400, 422)
    assert not {"set-cookie", "x"} & set(answer.headers)


async def test_details_of_health_are_for_those_who_sign_in(client: httpx.AsyncClient, ada: dict[str, str], provider: Provider) -> None:
    for stranger in ({}, bearer("garbage")):
        parts = (await client.get("/health", headers=stranger)).json()["parts"]
        assert {part["detail"] for part in parts.values()} == {"shown to those who sign in"}
    assert provider.issuer in (await client.get("/health", headers=ada)).json()["parts"]["sign_in"]["detail"]


async def test_a_rotated_key_is_taken_without_a_restart_and_no_token_is_in_the_log(
    client: httpx.AsyncClient, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    caplog.set_level(logging.DEBUG)
    rotated = token(saying(iss=provider.issuer), EC)
    # when
    provider.keys = [RSA, EC]
    # then, once the pause between two questions is over
    async with asyncio.timeout(30):
        while (await client.get("/v1/tools", headers=bearer(rotated))).status_code != 200:
            await asyncio.sleep(0.2)
    await client.get("/v1/tools", headers=bearer(ATTACKS["expired"]))
    said = caplog.text
    assert not any(secret in said for secret in (rotated, ATTACKS["expired"], SECRET, rotated.split(".")[2]))


async def test_what_somebody_does_is_recorded_under_their_name(client: httpx.AsyncClient, provider: Provider, worker: Process) -> None:
    # given a token of the command line, and one of the provider
    for header in (bearer(hs256(saying(iss=provider.issuer), SECRET.encode())), bearer(token(saying(iss=provider.issuer)))):
        # when
        session = (await client.post("/v1/sessions", json={"model": "echo"}, headers=header)).json()
        # then
        path = f"/v1/sessions/{session['id']}/events"
        page = await client.get(path, params={"position": session["position"]}, headers=header | {"Accept": "application/json"})
        assert [event["actor"] for event in page.json()["events"]] == ["ada"]


async def test_a_stream_ends_when_the_token_does(
    client: httpx.AsyncClient, provider: Provider, worker: Process, ada: dict[str, str]
) -> None:
    # given
    session = (await client.post("/v1/sessions", json={"model": "echo"}, headers=ada)).json()
    brief = bearer(token(saying(iss=provider.issuer, exp=int(time.time()) + 4)))
    # when
    path = f"/v1/sessions/{session['id']}/events"
    async with client.stream("GET", path, params={"position": session["position"]}, headers=brief, timeout=60) as stream:
        lines = [line async for line in stream.aiter_lines()]
    # then it ended by itself, as a whole, and begins no more
    assert "event: SessionStarted" in lines
    assert (await client.get(path, headers=brief)).status_code == 401


async def test_a_caller_who_asks_too_often_waits_and_others_do_not(closed: Settings, provider: Provider, gateway: Gateway) -> None:
    # given a gateway that lets a caller ask three times a minute
    few = closed.model_copy(update={"gateway_caller_requests_per_minute": 3, "gateway_port": free_port()})
    ada, bob = (bearer(token(saying(iss=provider.issuer, sub=actor))) for actor in ("ada", "bob"))
    async with Gateway(few) as other:
        await other.until_healthy()
        # when
        answers = [await other.client.get("/v1/models", headers=ada) for _ in range(5)]
        # then
        assert [answer.status_code for answer in answers[:3]] == [200] * 3
        assert answers[0].headers["ratelimit-policy"] == '"caller";q=3;w=60, "tenant";q=120000;w=60'
        assert answers[0].headers["ratelimit"].startswith('"caller";r=2;t=20, "tenant";r=119999;t=')
        assert (answers[4].status_code, answers[4].json()["code"]) == (429, "rate_limited")
        assert 0 < int(answers[4].headers["retry-after"]) <= 20
        assert answers[4].headers["ratelimit"].startswith('"caller";r=0;')
        assert (await other.client.get("/v1/models", headers=bob)).status_code == 200
        assert (await other.client.get("/health")).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(closed: Settings, gateway: Gateway, ada: dict[str, str]) -> None:
    brief = closed.model_copy(update={"gateway_body_seconds": 0.5, "gateway_port": free_port()})
    async with Gateway(brief) as other:
        await other.until_healthy()
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: {ada['Authorization']}\r\nContent-Type: application/json\r\n"
        answer = await raw(other, f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b'"code":"too_slow"' in answer


async def test_an_open_gateway_says_so_in_every_answer(
    module_settings: Settings, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway(module_settings.model_copy(update={"gateway_port": free_port()})) as other:
        await other.until_healthy()
        answer = await other.client.get("/health")
    assert answer.headers["soma-gate"] == "open"
    assert answer.json()["parts"]["sign_in"] == {"status": "ok", "detail": OPEN}
    assert OPEN in caplog.text
    assert "soma-gate" not in (await gateway.client.get("/health")).headers
