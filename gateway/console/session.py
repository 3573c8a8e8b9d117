"""Sessions: listed, followed, talked to, ended."""

from typing import get_args

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.console.api import path
from gateway.console.page import Page, attempt, entered, once, said, see, sent, shown, together
from gateway.v1.shapes import Status
from schemas.types.session import SessionEvent

STATUSES = get_args(Status)
EVENTS = " ".join(sorted(kind.__name__ for kind in get_args(SessionEvent.__annotations__["body"])))
"""What a stream names its events: a browser listens by name."""
FILTERS = ("status", "model", "cursor")
LAST = 200
"""Events that the timeline shows at most, the first of the session."""


async def sessions(page: Page) -> Response:
    wanted = {name: page.argument(name) for name in FILTERS}
    get = page.api.get
    found = await together(list=get(path("sessions"), **wanted), models=get(path("models")), agents=get(path("agents")))
    return page.draw("sessions.html", **found, wanted=wanted, statuses=STATUSES)


async def session(page: Page) -> Response:
    """With `position`, as new as that command at least: the page asks so for what it heard of by its stream."""
    id, get = page.named("id"), page.api.get
    found = await get(path("sessions", id), position=page.argument("position"))
    parts = await together(
        calls=get(path("sessions", id, "calls"), limit=100),
        events=get(path("sessions", id, "events"), limit=LAST, after=page.argument("after")),
    )
    waiting = [
        await attempt(get(path("sessions", id, "calls", call["id"])))
        for call in parts["calls"].get("calls", ())
        if call["status"] in ("awaiting", "unknown")
    ]
    return page.draw("session.html", session=found, waiting=waiting, event_kinds=EVENTS, **parts)


class Live:
    """The session's stream, as the API gives it to whoever is signed in: it ends when the credential does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = await entered(Request(scope, receive))
        await page.api.stream(scope, path("sessions", page.named("id"), "events"), receive, send)


async def start(page: Page, form: FormData) -> Response:
    kind, _, name = (said(form, "with") or "").partition(":")
    body = {"agent" if kind == "agent" else "model": name, "input": said(form, "input")}
    answer = await page.api.write("POST", path("sessions"), body, once(form), brief=True)
    return see(_address(answer.document["id"], answer.document["position"]))


async def message(page: Page, form: FormData) -> Response:
    return await _change(page, form, "messages", {"input": said(form, "input")}, brief=True)


async def cancel(page: Page, form: FormData) -> Response:
    return await _change(page, form, "cancel", {"reason": said(form, "reason")})


async def close(page: Page, form: FormData) -> Response:
    return await _change(page, form, "close", {})


async def _change(page: Page, form: FormData, action: str, body: dict[str, str | None], *, brief: bool = False) -> Response:
    """`brief`: the page shows that it waits for the model, instead of being waited for."""
    answer = await page.api.write("POST", path("sessions", page.named("id"), action), body, once(form), brief=brief)
    return see(_address(page.named("id"), answer.document["position"]))


def _address(id: str, position: str) -> str:
    return f"/console/sessions/{id}?position={position}"


ROUTES = (
    ("GET", "/console/sessions", shown(sessions)),
    ("POST", "/console/sessions", sent(start)),
    ("GET", "/console/sessions/{id}", shown(session)),
    ("GET", "/console/sessions/{id}/live", Live()),
    ("POST", "/console/sessions/{id}/messages", sent(message)),
    ("POST", "/console/sessions/{id}/cancel", sent(cancel)),
    ("POST", "/console/sessions/{id}/close", sent(close)),
)
