"""Where a request came from, and what it is called: what metrics and the audit may know of it, all of it bounded."""

import re

from msgspec import Struct
from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.types import Scope

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Origin(Struct, frozen=True):
    """`route` is the template of the route that was found; None before one is looked for."""

    method: str
    route: str | None
    remote: str | None
    request_id: str | None
    trace_id: str | None


def origin(scope: Scope) -> Origin:
    """Of an HTTP request. What a caller wrote is taken only in the form that it must have."""
    headers = Headers(scope=scope)
    asked = headers.get("x-request-id", "")
    return Origin(
        method=method(scope),
        route=template(scope),
        remote=scope["client"][0] if scope.get("client") else None,
        request_id=asked if _REQUEST_ID.fullmatch(asked) else None,
        trace_id=_trace_id(headers),
    )


def method(scope: Scope) -> str:
    """The request's method; `other` for one that no route here has, of which there is no end."""
    return scope["method"] if scope["method"] in METHODS else "other"


def template(scope: Scope) -> str | None:
    """The route with its parameters' names: with their values there would be one for each session."""
    route = getattr(scope.get("route"), "path", None)
    if route is None:
        return None
    prefix = scope["path"].removesuffix(route.format(**scope["path_params"]))
    return f"{prefix}{route}"


def _trace_id(headers: Headers) -> str | None:
    """W3C trace context §3.2: that of this request's span, or the caller's where nothing is traced here."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        return f"{span.trace_id:032x}"
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return found[1] if found else None
