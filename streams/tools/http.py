"""Tools behind an HTTP address."""

import asyncio
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
import msgspec
from msgspec import structs

from schemas.types.tool import Definition
from schemas.types.tool import Http as Place
from streams.tools import template
from streams.tools.egress import Barred, TooLong, Transport
from streams.tools.running import Call, Result, Ways, failed, late
from streams.tools.secrets import MissingSecret, hidden

MAX_REDIRECTS = 5
STATUS_SECONDS = 10.0
QUOTED = 4_096
"""Bytes of a refusal that are passed on."""
_BODIES = ("POST", "PUT", "PATCH")
_FAILED = (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
_BEFORE = (httpx2.ConnectError, httpx2.ConnectTimeout)
"""Errors of a request that did not reach the tool."""


class Http:
    """Sends a call as one request. Arguments that the address does not take are the JSON body, or the query of a GET and a DELETE."""

    def __init__(self, definition: Definition, place: Place, ways: Ways) -> None:
        self._place, self._secrets = place, ways.secrets
        self._client = httpx2.AsyncClient(
            transport=Transport(ways.guard, _hosts(definition, place, ways), ways.max_bytes),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # what a tool tells one session is no business of another
            headers={"user-agent": "SomaAgentHub"},
            timeout=None,  # `run` and `status` bound the whole
            trust_env=False,
        )
        self._nowhere = place.url == template.ANYWHERE and not ways.open_hosts

    async def run(self, call: Call) -> Result:
        if self._nowhere:
            return failed("this tool may reach no host: list those it may in SOMA_HTTP_GET_HOSTS")
        try:
            async with asyncio.timeout(call.seconds):
                return (await self._answer(self._place.method, self._place.url, call.arguments, call.id))[1]
        except TimeoutError:
            return late(call)

    async def status(self, call_id: str) -> Result | None:
        """Asks the status address: 404 and 410 say that the call is not known there, 202 that it has not ended.

        Other answers of 2xx are its result, 409 and 422 say how it failed; any other says nothing about the call.
        """
        if self._place.status_url is None:
            return None
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                status, result = await self._answer("GET", self._place.status_url, {"call": call_id}, call_id)
        except TimeoutError:
            return failed(f"no answer within {STATUS_SECONDS:g} s", retry=True, fault=True)
        match status:
            case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
                return None
            case HTTPStatus.ACCEPTED:
                return failed("the call has not ended", retry=True)
            case _ if result.outcome == "ok" or status in _FAILED:
                return result
            case _:
                return structs.replace(result, retry=True)

    async def close(self) -> None:
        await self._client.aclose()

    async def _answer(self, method: str, url: str, arguments: dict[str, Any], call_id: str) -> tuple[int, Result]:
        """The status, 0 where there is none, and what it means for a call."""
        try:
            headers, used = self._secrets.filled(self._place.headers)
            address, rest = template.expanded(url, arguments), _rest(url, arguments)
            request = self._request(method, address, rest, {**headers, "idempotency-key": call_id})
            status, body = await self._follow(request)
        except (ValueError, httpx2.InvalidURL, httpx2.UnsupportedProtocol, Barred, TooLong) as error:
            return 0, failed(str(error))
        except MissingSecret as error:
            return 0, failed(str(error), fault=True)
        except httpx2.TransportError as error:
            return 0, failed(_brief(error), retry=True, fault=True, unsure=not isinstance(error, _BEFORE))
        return status, _result(status, hidden(body, used))

    def _request(self, method: str, url: str, rest: dict[str, Any], headers: dict[str, str]) -> httpx2.Request:
        if method in _BODIES:
            headers = {"content-type": "application/json", **headers}
            return self._client.build_request(method, url, content=msgspec.json.encode(rest), headers=headers)
        query = {name: [_word(v) for v in value] if isinstance(value, list) else _word(value) for name, value in rest.items()}
        return self._client.build_request(method, httpx2.URL(url).copy_merge_params(query), headers=headers)

    async def _follow(self, request: httpx2.Request) -> tuple[int, bytes]:
        """The answer at the end of the redirects. A hop to another origin goes without the definition's headers: they may be secret."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                following = response.next_request
                if following is None:
                    return response.status_code, await response.aread()
            finally:
                await response.aclose()
            if _origin(following.url) != _origin(request.url):
                for name in self._place.headers:
                    following.headers.pop(name, None)
            request = following
        raise Barred(f"more than {MAX_REDIRECTS} redirects")


def _hosts(definition: Definition, place: Place, ways: Ways) -> tuple[str, ...]:
    if place.url == template.ANYWHERE:
        return tuple(host for host in ways.open_hosts if not definition.allowed_hosts or host in definition.allowed_hosts)
    own = template.host(place.url)
    return definition.allowed_hosts or ((own,) if own else ())


def _rest(url: str, arguments: dict[str, Any]) -> dict[str, Any]:
    taken = template.names(url)
    return {name: value for name, value in arguments.items() if name not in taken}


def _word(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _brief(error: httpx2.TransportError) -> str:
    """What happened. The text of a protocol error is left out: it may quote a header."""
    if isinstance(error, httpx2.ProtocolError):
        return f"the server does not speak HTTP properly ({type(error).__name__})"
    if isinstance(error, httpx2.ConnectError):
        return f"the server cannot be reached: {error}"
    return f"the connection broke ({type(error).__name__})"


def _result(status: int, body: bytes) -> Result:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return failed(f"HTTP {status}: the answer is not UTF-8 text")
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Result("ok", body)
    later = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    return failed(f"HTTP {status}: {text[:QUOTED]}".rstrip(": "), retry=later, fault=later)
