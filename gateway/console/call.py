"""Tool calls: what waits for a person, what a person decides about one, and the ledger."""

from typing import get_args

from starlette.datastructures import FormData
from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, once, said, see, sent, shown, together
from gateway.v1.call_shapes import Status

STATUSES = get_args(Status)
FILTERS = ("status", "tool", "cursor")


async def approvals(page: Page) -> Response:
    return page.draw("approvals.html", list=await page.api.get(path("approvals"), cursor=page.argument("cursor")))


async def calls(page: Page) -> Response:
    wanted = {name: page.argument(name) for name in FILTERS}
    return page.draw("calls.html", **await together(list=page.api.get(path("calls"), **wanted)), wanted=wanted, statuses=STATUSES)


async def approve(page: Page, form: FormData) -> Response:
    """With the digest of the arguments that the page showed: a call whose arguments are others by now is not approved."""
    return await _decide(page, form, "approve", {"arguments_digest": said(form, "digest")})


async def deny(page: Page, form: FormData) -> Response:
    return await _decide(page, form, "deny", {})


async def settle(page: Page, form: FormData) -> Response:
    return await _decide(page, form, "settle", {"outcome": said(form, "outcome"), "result": said(form, "result")})


async def _decide(page: Page, form: FormData, decision: str, body: dict[str, str | None]) -> Response:
    id = page.named("id")
    address, noted = path("sessions", id, "calls", page.named("call"), decision), {"note": said(form, "note")}
    answer = await page.api.write("POST", address, body | noted, once(form), brief=True)
    return see(f"/console/sessions/{id}?position={answer.document['position']}")


ROUTES = (
    ("GET", "/console/approvals", shown(approvals)),
    ("GET", "/console/calls", shown(calls)),
    ("POST", "/console/sessions/{id}/calls/{call}/approve", sent(approve)),
    ("POST", "/console/sessions/{id}/calls/{call}/deny", sent(deny)),
    ("POST", "/console/sessions/{id}/calls/{call}/settle", sent(settle)),
)
