"""API keys: issued, with their secret shown once, rotated, revoked."""

from starlette.datastructures import FormData
from starlette.responses import Response

from gateway.console.api import Answer, path
from gateway.console.page import Page, attempt, once, said, see, sent, shown


async def keys(page: Page) -> Response:
    asked = {"cursor": page.argument("cursor"), "position": page.argument("position")}
    return page.draw("keys.html", list=await attempt(page.api.get(path("keys"), inactive=True, **asked)))


async def issue(page: Page, form: FormData) -> Response:
    day = said(form, "expires")
    body = {
        "name": said(form, "name"),
        "scopes": (said(form, "scopes") or "").split(),
        "expires_at": f"{day}T00:00:00Z" if day else None,
    }
    return _secret(page, await page.api.write("POST", path("keys"), body, once(form)))


async def rotate(page: Page, form: FormData) -> Response:
    hours = said(form, "hours") or ""
    body = {"overlap_seconds": int(hours) * 3600 if hours.isdecimal() and len(hours) < 6 else hours}
    return _secret(page, await page.api.write("POST", path("keys", page.named("key"), "rotate"), body, once(form)))


async def revoke(page: Page, form: FormData) -> Response:
    answer = await page.api.write("DELETE", path("keys", page.named("key")), None, once(form), reason=said(form, "reason"))
    return see(f"/console/keys?position={answer.document['position']}")


def _secret(page: Page, answer: Answer) -> Response:
    """The one page with a secret in it. It is the answer to the form itself: no address leads to it again."""
    return page.draw("secret.html", key=answer.document)


ROUTES = (
    ("GET", "/console/keys", shown(keys)),
    ("POST", "/console/keys", sent(issue)),
    ("POST", "/console/keys/{key}/rotate", sent(rotate)),
    ("POST", "/console/keys/{key}/revoke", sent(revoke)),
)
