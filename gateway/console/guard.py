"""What keeps other sites away from the console: headers of its answers, and what a request has to show before it changes anything."""

import hmac
import re
from urllib.parse import urlsplit

from starlette.datastructures import FormData, Headers
from starlette.requests import Request

from gateway.issuer import LOOPBACK
from ops.settings import Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HOME = "/console"
_LOCAL = re.compile(r"/console(/[A-Za-z0-9_@~-][A-Za-z0-9_.@~-]*)*(\?[A-Za-z0-9_.@~=&:%+-]*)?")


class Forged(Exception):
    """The request does not come from a page of this console, as far as can be told."""


def host(headers: Headers) -> str | None:
    """The name in Host, without its port."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None


def is_secure(request: Request, settings: Settings) -> bool:
    """Whether cookies are for https alone: always, but for plain HTTP on this machine. Who ends TLS before the gateway does not matter."""
    return request.url.scheme == "https" or urlsplit(settings.url).scheme == "https" or host(request.headers) not in LOOPBACK


def check_host(headers: Headers) -> None:
    """For a gate that stands open: a foreign name that leads to this machine (DNS rebinding) would be of the same origin. Raises Forged."""
    if host(headers) not in LOOPBACK:
        raise Forged("Nobody has to sign in here, so this console answers only at localhost and 127.0.0.1.")


def check(request: Request, form: FormData, csrf: str) -> None:
    """The page that sends a form is one of ours, and was made for whoever sends it. Raises Forged."""
    origin, site = request.headers.get("origin", "null"), request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin") or not (site or origin != "null"):
        raise Forged("The form was not sent from a page of this console. Open the page here and send it again.")
    # Pages without referrer send forms with `Origin: null` (Fetch §3.2): then Sec-Fetch-Site, which no page can set, has said it.
    if origin != "null" and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forged(f"The form was sent from {origin[:100]}, not from a page of this console.")
    if not hmac.compare_digest(str(form.get("csrf", "")).encode(), csrf.encode()):
        raise Forged("The page is of another sign-in than yours now, or too old. Load it again and send the form once more.")


def local(address: str | None) -> str:
    """Where to go after sign-in: a page of the console, whatever was asked for."""
    return address if address and _LOCAL.fullmatch(address) else HOME
