"""Everything that can be wrong with a tool's definition, found before it is registered."""

import re
from collections.abc import Iterator, Mapping

from ops import json_schema
from ops.json_schema import BadSchema, problem
from schemas.types.tool import Definition, Http, Mcp, Python
from streams.tools import template
from streams.tools.secrets import NAMED

__all__ = ["check_definition", "problem"]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_DESCRIPTION = 4 << 10
MAX_URL = 2 << 10
MAX_HEADERS = 32
MAX_HEADER = 4 << 10
MAX_HOSTS = 64
MAX_COMMAND = 64
MAX_COST = 10**12
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_ENTRY_POINT = re.compile(r"[\w.-]{1,128}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # token, RFC 9110
_HOST = re.compile(r"[0-9A-Za-z_.:-]{1,253}")
_OURS = {"accept-encoding", "connection", "content-length", "host", "idempotency-key", "transfer-encoding", "upgrade"}


def check_definition(definition: Definition) -> list[str]:
    """What is wrong with the definition, one sentence each; empty when it can be registered."""
    places = [place for place in (definition.http, definition.mcp, definition.python) if place]
    wrong = [*_texts(definition), *_schemas(definition), *_numbers(definition), *_hosts(definition)]
    if len(places) != 1:
        return [*wrong, "exactly one of http, mcp and python says what runs the tool"]
    match places[0]:
        case Http() as http:
            return [*wrong, *_http(definition, http)]
        case Mcp() as mcp:
            return [*wrong, *_mcp(mcp)]
        case Python(entry_point=name):
            return wrong if _ENTRY_POINT.fullmatch(name) else [*wrong, "python.entry_point is not the name of an entry point"]


def _texts(definition: Definition) -> Iterator[str]:
    if not _NAME.fullmatch(definition.name):
        yield "name is a small letter, then up to 63 small letters, digits, - and _"
    if not definition.description.strip():
        yield "description is empty: models choose a tool by it"
    if _bytes(definition.description) > MAX_DESCRIPTION:
        yield f"description is longer than {MAX_DESCRIPTION} bytes"
    if definition.repeat not in ("safe", "never"):
        yield "repeat is safe or never"
    if definition.approval not in ("never", "always", "when"):
        yield "approval is never, always or when"


def _schemas(definition: Definition) -> Iterator[str]:
    yield from _schema("parameters", definition.parameters, of_object=True)
    if definition.result is not None:
        yield from _schema("result", definition.result)
    if definition.approval_when is not None:
        yield from _schema("approval_when", definition.approval_when)
    if (definition.approval == "when") != (definition.approval_when is not None):
        yield "approval_when is given where approval is when, and only there"


def _schema(field: str, text: str, *, of_object: bool = False) -> Iterator[str]:
    try:
        parsed = json_schema.parsed(text)
    except BadSchema as error:
        yield f"{field} {error}"
    else:
        if of_object and parsed.get("type") != "object":
            yield f'{field} does not say "type": "object": arguments have names'


def _numbers(definition: Definition) -> Iterator[str]:
    bounds = {"timeout_seconds": (1, 3_600), "attempts": (1, 10), "concurrency": (1, 1_000), "cost_micros": (0, MAX_COST)}
    for field, (least, most) in bounds.items():
        if not least <= getattr(definition, field) <= most:
            yield f"{field} is from {least} to {most}"


def _hosts(definition: Definition) -> Iterator[str]:
    if len(definition.allowed_hosts) > MAX_HOSTS:
        yield f"allowed_hosts has more than {MAX_HOSTS} entries"
    for host in definition.allowed_hosts[:MAX_HOSTS]:
        if not _HOST.fullmatch(host):
            yield f"allowed_hosts: {host[:64]!r} is not a host: no scheme, port or path"


def _http(definition: Definition, http: Http) -> Iterator[str]:
    if http.method not in METHODS:
        yield f"http.method is one of {', '.join(METHODS)}"
    if wrong := _url(http.url):
        yield f"http.url {wrong}"
    elif unknown := [name for name in template.names(http.url) if name not in _properties(definition)]:
        yield f"http.url names what is not among the properties of parameters: {', '.join(unknown)}"
    elif definition.allowed_hosts and http.url != template.ANYWHERE and not _reaches(definition, http.url):
        yield "allowed_hosts does not hold the host of http.url"
    if http.status_url is not None:
        yield from _status(definition, http, http.status_url)
    yield from _headers("http.headers", http.headers)


def _status(definition: Definition, http: Http, url: str) -> Iterator[str]:
    if wrong := _url(url):
        yield f"http.status_url {wrong}"
    elif template.names(url) != ["call"]:
        yield "http.status_url holds {call}, and no other name"
    elif not (_reaches(definition, url) if definition.allowed_hosts else template.host(url) == template.host(http.url)):
        yield "http.status_url is at a host that the tool may not reach: add it to allowed_hosts"


def _mcp(mcp: Mcp) -> Iterator[str]:
    if not 0 < len(mcp.tool) <= 128:
        yield "mcp.tool has 1 to 128 characters"
    if (mcp.url is None) != bool(mcp.command):
        yield "exactly one of mcp.url and mcp.command says where the server is"
    if mcp.url is not None and (wrong := _url(mcp.url) or ("holds arguments" if template.names(mcp.url) else None)):
        yield f"mcp.url {wrong}"
    if len(mcp.command) > MAX_COMMAND or any(_bytes(part) > MAX_HEADER or "\0" in part for part in mcp.command):
        yield f"mcp.command has more than {MAX_COMMAND} parts, or a part of more than {MAX_HEADER} bytes"
    if mcp.command and mcp.headers:
        yield "mcp.headers are for a server with a url"
    yield from _headers("mcp.headers", mcp.headers)


def _url(url: str) -> str | None:
    if _bytes(url) > MAX_URL:
        return f"is longer than {MAX_URL} bytes"
    if "${" in url:
        return "holds a secret: addresses are logged, headers are not"
    return template.problem(url)


def _headers(field: str, headers: Mapping[str, str]) -> Iterator[str]:
    if len(headers) > MAX_HEADERS:
        yield f"{field} has more than {MAX_HEADERS} entries"
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            yield f"{field}: {name[:64]!r} is not the name of a header"
        elif name.lower() in _OURS:
            yield f"{field}: {name} is set by the platform"
        if _bytes(value) > MAX_HEADER or not (value.isascii() and value.isprintable()):
            yield f"{field}: the value of {name[:64]!r} is not printable ASCII of at most {MAX_HEADER} bytes"
        elif "${" in NAMED.sub("", value):
            yield f"{field}: the value of {name[:64]!r} names a secret in another form than ${{secret:NAME}}"


def _properties(definition: Definition) -> Mapping[str, object]:
    try:
        properties = json_schema.parsed(definition.parameters).get("properties", {})
    except BadSchema:
        return {}
    return properties if isinstance(properties, dict) else {}


def _reaches(definition: Definition, url: str) -> bool:
    return template.host(url) in {host.lower() for host in definition.allowed_hosts}


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))
