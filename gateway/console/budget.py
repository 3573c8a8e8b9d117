"""The tenant's budget: what is used, held and left; and another one."""

from starlette.datastructures import FormData
from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, attempt, once, said, see, sent, shown

AMOUNTS = ("tokens", "cost_micros", "calls", "turns")


async def budget(page: Page) -> Response:
    found = await attempt(page.api.get(path("budget"), position=page.argument("position")))
    return page.draw("budget.html", budget=found, amounts=AMOUNTS)


async def set_budget(page: Page, form: FormData) -> Response:
    limits = {name: _number(form, name) for name in AMOUNTS}
    body = {"limits": limits | {"seconds": _number(form, "seconds")}, "renews": "renews" in form}
    answer = await page.api.write("PUT", path("budget"), body, once(form))
    return see(f"/console/budget?position={answer.document['position']}")


def _number(form: FormData, name: str) -> int | str | None:
    """None where nothing was written; what is no number goes on as it is, for the API to say so."""
    text = said(form, name)
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 else text


ROUTES = (("GET", "/console/budget", shown(budget)), ("POST", "/console/budget", sent(set_budget)))
