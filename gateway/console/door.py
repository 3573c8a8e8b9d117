"""/console, in front of the API: its pages are served before the gate, each finds out for itself who looks at it."""

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.console import access, agent, audit, budget, call, home, policy, session, sign_in, tool, usage
from gateway.console.api import Failed
from gateway.console.cookie import SESSION, Cookies, key
from gateway.console.guard import HEADERS, HOME, Forged
from gateway.console.page import ROOM, Console, SignInNeeded, draw, of, secure
from gateway.middleware import BodyLimit
from gateway.problems import Problem, Unauthenticated
from ops.settings import Settings

NOUNS = (home, sign_in, session, call, tool, agent, access, budget, usage, policy, audit)
STATIC = "/console/static/"


class Door:
    """Serves the console's addresses, and lets every other request through. Its answers are for no other site and no cache."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings, self._cookies = app, settings, Cookies(key(settings))
        self._pages = BodyLimit(pages(), settings.gateway_max_body_bytes, settings.gateway_body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"] == HOME or scope["path"].startswith(f"{HOME}/")):
            return await self._app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["Cache-Control"] = "public, max-age=3600" if scope["path"].startswith(STATIC) else "no-store"
            await send(message)

        console = Console(scope["app"], self._settings, self._cookies)
        return await self._pages({**scope, "soma.console": console}, receive, guarded)


def pages() -> Starlette:
    """Every page, and what is shown where one cannot be."""
    routes: list[Any] = [Mount(STATIC.rstrip("/"), StaticFiles(directory=ROOM / "static"))]
    routes += [Route(path, endpoint, methods=[method]) for noun in NOUNS for method, path, endpoint in noun.ROUTES]
    kinds: Mapping[Any, Any] = {
        SignInNeeded: _signed_out,
        Unauthenticated: _signed_out,
        Failed: _failed,
        Forged: _forged,
        Problem: _problem,
        HTTPException: _missing,
        Exception: _defect,
    }
    return Starlette(routes=routes, exception_handlers=kinds)


async def _signed_out(request: Request, error: Exception) -> Response:
    """To the sign-in, and from there back to the page that was asked for, if that can be looked at again."""
    response = sign_in.asked(
        request, error.reason if isinstance(error, SignInNeeded) else "You were signed out: the credential is no longer good."
    )
    if isinstance(error, Unauthenticated):
        of(request).cookies.forget(response, SESSION, secure=secure(request))
    return response


async def _failed(request: Request, error: Failed) -> Response:
    """What the API says of a request that it did not do."""
    return draw("problem.html", error.status, problem=error.problem)


async def _problem(request: Request, error: Problem) -> Response:
    return draw("problem.html", error.status, problem=error.document())


async def _forged(request: Request, error: Forged) -> Response:
    problem = {"title": "This was not done", "detail": str(error), "advice": "Nothing was changed."}
    return draw("problem.html", 403, problem=problem)


async def _missing(request: Request, error: HTTPException) -> Response:
    problem = {"title": error.detail, "detail": "The console has no such page.", "advice": "Go on from the overview."}
    return draw("problem.html", error.status_code, problem=problem)


async def _defect(request: Request, error: Exception) -> Response:
    advice = "What was asked for may have been done: look before you try again. If it stays, report it with the time."
    return draw("problem.html", 500, problem={"title": "A defect in the console", "detail": "The page cannot be shown.", "advice": advice})
