"""What every page of the console begins with: who looks at it, and how it is drawn."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.auth import ANONYMOUS, Gate, Principal, address
from gateway.console import guard
from gateway.console.api import Api, Failed
from gateway.console.cookie import Cookies, Session
from ops.settings import Settings

SHOWN = 20_000
"""Characters of one text that a page shows; the API has the rest."""
ROOM = Path(__file__).parent


class Console(NamedTuple):
    """What the console is made of. `api` is the gateway's application."""

    api: Starlette
    settings: Settings
    cookies: Cookies


class Page(NamedTuple):
    """A request to the console, and whoever sent it."""

    request: Request
    console: Console
    session: Session
    who: Principal
    api: Api

    def argument(self, name: str) -> str | None:
        """Of the address; None where it is not given, or empty."""
        return self.request.query_params.get(name) or None

    def named(self, name: str) -> str:
        """A part of the address' path."""
        return str(self.request.path_params[name])

    def draw(self, template: str, status: int = 200, /, **shown: Any) -> Response:
        about = {"page": self, "csrf": self.session.csrf, "who": self.who, "path": self.request.url.path}
        return draw(template, status, **about, **shown)


class SignInNeeded(Exception):
    """Nobody is signed in, or not any more: then `reason` says why."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


Shown = Callable[[Page], Awaitable[Response]]
Sent = Callable[[Page, FormData], Awaitable[Response]]


def shown(page: Shown) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page that is only looked at. Raises what `entered` does."""

    async def answer(request: Request) -> Response:
        return await _kept(found := await entered(request), await page(found))

    return answer


def sent(page: Sent) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that a form is sent to, once it is sure that a page of ours sent it. Raises Forged, and what `entered` does."""

    async def answer(request: Request) -> Response:
        found = await entered(request)
        async with request.form(max_files=0, max_fields=50) as form:
            guard.check(request, form, found.session.csrf)
            return await _kept(found, await page(found, form))

    return answer


async def entered(request: Request) -> Page:
    """Raises SignInNeeded, Forged, and the gate's CannotVerify and Unauthenticated."""
    console = of(request)
    gate: Gate = console.api.state.parts.sign_in.gate
    session = console.cookies.session(request.cookies, secure=secure(request))
    who = ANONYMOUS
    if session and session.credential:
        who = await gate.admit("GET", guard.HOME, [f"Bearer {session.credential}"], address(gate, request.scope)) or ANONYMOUS
    elif gate.required:
        raise SignInNeeded
    else:
        guard.check_host(request.headers)
    session = session or console.cookies.begin()
    remote = request.client.host if request.client else ""
    return Page(request, console, session, who, Api(console.api, session.credential, remote))


def said(form: FormData, name: str) -> str | None:
    """What a field says; None where it is empty, or not there."""
    found = form.get(name)
    return found.strip() or None if isinstance(found, str) else None


def once(form: FormData) -> str:
    """The Idempotency-Key that the page put into its form."""
    return said(form, "once") or ""


def of(request: Request) -> Console:
    found: Console = request.scope["soma.console"]
    return found


def secure(request: Request) -> bool:
    return guard.is_secure(request, of(request).settings)


async def attempt(asked: Awaitable[Any]) -> Any:
    """What is shown where a part of a page cannot be had: the problem in its place, `{"problem": …}`."""
    try:
        return await asked
    except Failed as failed:
        return {"problem": failed.problem}


async def together(**asked: Awaitable[Any]) -> Mapping[str, Any]:
    """Parts of a page, asked for at once, each shown even where others fail."""
    return dict(zip(asked, await asyncio.gather(*map(attempt, asked.values())), strict=True))


def see(address: str) -> Response:
    """After a form: look at what became of it (RFC 9110 §15.4.4), so that loading again sends nothing twice."""
    return RedirectResponse(address, 303)


def draw(template: str, status: int = 200, /, **shown: Any) -> Response:
    """A page of this console. Everything that is shown is escaped; only templates are believed."""
    return HTMLResponse(_templates.get_template(template).render({"page": None, "csrf": "", "who": None, "path": "", **shown}), status)


async def _kept(page: Page, response: Response) -> Response:
    """With the cookie that a visitor's forms are compared with, where there is none yet."""
    if page.session.credential is None:
        page.console.cookies.set(response, page.session, secure=secure(page.request))
    return response


def _pretty(value: Any) -> str:
    """Text, or JSON in many lines; of what is long, the beginning."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _bounded(value)
    return _bounded(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))


def _bounded(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… {len(text) - SHOWN} more characters: read it by the API"


def _moment(time: str | None) -> str:
    """`2026-01-31T12:00:00.020000Z` for people, in UTC."""
    return f"{time[:10]} {time[11:19]}" if time else ""


def _given(wanted: Mapping[str, str | None]) -> dict[str, str]:
    """Of a list's filters, those that are set."""
    return {name: value for name, value in wanted.items() if value}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ROOM / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"pretty": _pretty, "moment": _moment, "select_given": _given}
    made.globals["once"] = lambda: secrets.token_urlsafe(16)
    return made


_templates = _environment()
