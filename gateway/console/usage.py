"""What the tenant used, by day, model and tool."""

from typing import get_args

from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, attempt, shown
from gateway.v1.usage_shapes import By

WAYS = get_args(By)


async def usage(page: Page) -> Response:
    wanted = {"since": page.argument("since"), "until": page.argument("until")}
    by = page.request.query_params.getlist("by") or ["day", "model"]
    found = await attempt(page.api.get(path("usage"), **wanted, group_by=by))
    return page.draw("usage.html", report=found, wanted=wanted | {"by": by}, ways=WAYS)


ROUTES = (("GET", "/console/usage", shown(usage)),)
