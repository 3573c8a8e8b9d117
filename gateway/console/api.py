"""The API, asked in this process with the credential of whoever is signed in: the same door, policies, limits and records as for anyone."""

from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

SECONDS, BRIEF_SECONDS = 20, 1


class Failed(Exception):
    """The API answered with a problem."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", ""))
        self.status, self.problem = status, problem


class Answer(NamedTuple):
    status: int
    document: Any


class Api:
    """`remote` is the address that the request came from, for policies to decide upon."""

    def __init__(self, app: ASGIApp, credential: str | None, remote: str) -> None:
        self._app, self._remote = app, remote
        self._shown = {"Authorization": f"Bearer {credential}"} if credential else {}

    async def get(self, path: str, **query: str | int | bool | list[str] | None) -> Any:
        """The document. Raises Failed."""
        return (await self._send("GET", path, query, None, {})).document

    async def write(self, method: str, path: str, body: Any, key: str, *, brief: bool = False, **query: str | None) -> Answer:
        """What became of it; with `brief`, what did so within a moment, which a refusal does. `key`: a form sent twice is one request.

        Raises Failed.
        """
        waiting = {"Idempotency-Key": key, "Prefer": f"wait={BRIEF_SECONDS if brief else SECONDS}"}
        return await self._send(method, path, query, body, waiting)

    async def stream(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """Hand a request on as one for Server-Sent Events, and the answer back as it comes."""
        kept = [(name, value) for name, value in scope["headers"] if name in (b"last-event-id", b"host", b"traceparent")]
        shown = [(name.lower().encode(), value.encode()) for name, value in self._shown.items()]
        asked = {"path": path, "raw_path": path.encode(), "headers": [*kept, *shown, (b"accept", b"text/event-stream")]}
        fresh = {key: value for key, value in scope.items() if key in ("type", "asgi", "http_version", "scheme", "client", "server")}
        await self._app({**fresh, **asked, "method": "GET", "query_string": scope["query_string"], "root_path": ""}, receive, send)

    async def _send(self, method: str, path: str, query: dict[str, Any], body: Any, headers: dict[str, str]) -> Answer:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=(self._remote, 0))
        given = {name: value for name, value in query.items() if value not in (None, "")}
        headers = {"Accept": "application/json", **self._shown, **headers, **({} if body is None else {"Content-Type": "application/json"})}
        content = None if body is None else msgspec.json.encode(body)
        async with httpx.AsyncClient(transport=transport, base_url="http://console", headers=headers) as client:
            answer = await client.request(method, path, params=given, content=content)
        document = msgspec.json.decode(answer.content or b"null")
        if answer.is_error and not (path == "/health" and document):
            raise Failed(answer.status_code, document)
        return Answer(answer.status_code, document)


def path(*segments: str) -> str:
    """An address of the API, whatever the segments hold."""
    return "/v1/" + "/".join(quote(segment, safe="@") for segment in segments)
