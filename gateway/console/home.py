"""The overview: what works, and what waits for a person."""

from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, shown, together

FEW = 5


async def overview(page: Page) -> Response:
    get = page.api.get
    found = await together(
        health=get("/health"),
        approvals=get(path("approvals"), limit=FEW),
        unknown=get(path("calls"), status="unknown", limit=FEW),
        tools=get(path("tools"), limit=500),
        sessions=get(path("sessions"), limit=FEW),
    )
    broken = [tool for tool in found["tools"].get("tools", ()) if tool["breaker"]["status"] != "closed"]
    return page.draw("home.html", **found, broken=broken)


ROUTES = (("GET", "/console", shown(overview)),)
