"""What the gate decided: searched, and each decision with the rule that made it."""

from typing import get_args

from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, shown, together
from gateway.v1.audit_shapes import Outcome

OUTCOMES = get_args(Outcome)
FILTERS = ("actor", "action", "outcome", "resource", "resource_id", "cursor")
DAYS = ("since", "until")
"""Of a date's first moment, in UTC."""


async def trail(page: Page) -> Response:
    wanted = {name: page.argument(name) for name in (*FILTERS, *DAYS)}
    asked = wanted | {name: f"{day}T00:00:00Z" if (day := wanted[name]) else None for name in DAYS}
    found = await together(list=page.api.get(path("audit"), **asked))
    return page.draw("audit.html", **found, wanted=wanted, outcomes=OUTCOMES)


async def decision(page: Page) -> Response:
    return page.draw("decision.html", decision=await page.api.get(path("audit", page.named("id"))))


ROUTES = (("GET", "/console/audit", shown(trail)), ("GET", "/console/audit/{id}", shown(decision)))
