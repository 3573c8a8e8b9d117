"""How a version of the API, or a part of one, is said to be on its way out (RFC 9745, RFC 8594; docs/versioning.md)."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deprecation(NamedTuple):
    """From when on it should not be used, when it will be gone, and where a reader finds what to do instead."""

    since: datetime
    sunset: datetime
    guide: str

    def headers(self) -> dict[str, str]:
        """RFC 9745 §2.1 writes a date as `@` and Unix seconds, RFC 8594 as HTTP does."""
        return {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Sunset": format_datetime(self.sunset.astimezone(UTC), usegmt=True),
            "Link": f'<{self.guide}>; rel="deprecation"; type="text/html"',
        }


def include(app: FastAPI, router: APIRouter, deprecation: Deprecation | None = None) -> None:
    """Serve a version's routes. All that is answered under the prefix of a deprecated one says so, errors included."""
    app.include_router(router, deprecated=True if deprecation else None)
    if deprecation:
        app.add_middleware(_Deprecated, prefix=router.prefix, deprecation=deprecation)


class _Deprecated:
    def __init__(self, app: ASGIApp, prefix: str, deprecation: Deprecation) -> None:
        self._app, self._prefix, self._headers = app, prefix, deprecation.headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        under = scope["type"] == "http" and (scope["path"] == self._prefix or scope["path"].startswith(f"{self._prefix}/"))

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.append(name, value)
            await send(message)

        await self._app(scope, receive, marked if under else send)
