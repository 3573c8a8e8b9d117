"""Addresses with arguments in them: RFC 6570, level 1, and `{+url}` for a tool whose whole address is an argument."""

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import uritemplate

ANYWHERE = "{+url}"
_LEVEL_1 = re.compile(r"(?:[^{}]|\{[A-Za-z_][A-Za-z0-9_]*\})*")


class BadArgument(ValueError):
    """An argument would lead to another address than the template means."""


def names(template: str) -> list[str]:
    """The arguments that the template takes."""
    return list(uritemplate.variables(template))


def host(template: str) -> str | None:
    """The host of every address that the template makes. None where an argument decides it, or where it has none."""
    authority = re.match(r"https?://([^/?#]*)", template)
    return urlsplit(template).hostname if authority and "{" not in authority[1] else None


def problem(template: str) -> str | None:
    """What is wrong with a template, or None."""
    if template == ANYWHERE:
        return None
    if not _LEVEL_1.fullmatch(template):
        return "is not a template of RFC 6570, level 1: only {name} is known, of letters, digits and _"
    try:
        url = urlsplit(re.sub(r"\{\w+\}", "x", template))
        _ = url.port
    except ValueError as error:
        return f"is not an address: {error}"
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        return "is not an address: it begins with http:// or https:// and a host, without a user"
    if host(template) is None:
        return "has an argument in its host: arguments stand in the path or the query"
    return None


def expanded(template: str, arguments: dict[str, Any]) -> str:
    """The address. What is no text stands in it as JSON; an argument that is absent leaves nothing. Raises BadArgument."""
    texts: dict[str, Any] = {name: _text(arguments[name]) for name in names(template) if arguments.get(name) is not None}
    url = str(uritemplate.expand(template, **texts))
    if any(unquote(segment) in (".", "..") for segment in url.partition("?")[0].split("/")):
        raise BadArgument("the arguments would make . or .. a part of the address's path")
    return url


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
