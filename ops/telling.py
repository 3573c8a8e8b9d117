"""A record's body on one line, for people: what it says, without what goes without saying."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from schemas.types.common import Sealed, Usage
from schemas.types.session import Tool

TEXT = 80
"""Characters of one value."""
UNSAID: tuple[Any, ...] = (None, "", (), {})


def what(body: Struct) -> str:
    """Its fields. Control characters of what people and models wrote are shown, not obeyed."""
    return "  ".join(f"{name}={value}" for name, value in _said(body))


def _said(body: Struct) -> Iterator[tuple[str, str]]:
    """The fields that say something, each briefly."""
    for field in fields(body):
        value = getattr(body, field.name)
        if value is not False and value not in UNSAID and value != field.default:
            yield field.name, _brief(value)


def _brief(value: Any) -> str:
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in _plain(value))
    return shown if len(shown) <= TEXT else f"{shown[:TEXT]}…"


def _plain(value: Any) -> str:
    match value:
        case Sealed():
            return f"<sealed with {value.key_id}>"
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
        case bytes():
            return value.hex()
        case tuple():
            return ", ".join(map(_plain, value))
        case dict():
            return ", ".join(f"{key}={_plain(each)}" for key, each in value.items())
        case Usage():
            return f"{value.input_tokens} + {value.output_tokens} tokens, {value.cost_micros} millionths"
        case Tool():
            return f"{value.name}@{value.version}"
        case Struct():
            return "(" + ", ".join(f"{name} {text}" for name, text in _said(value)) + ")"
        case _:
            return str(value)
