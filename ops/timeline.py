"""Events as people read them: one on a line, or a session's as a timeline. `--json` has what is left out here: empty fields."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import fields
from rich.table import Table
from rich.text import Text

from ops.replay import Recorded
from schemas.types.common import Sealed

TEXT = 80
"""Characters of a text that are shown."""
DIGEST = 4
"""Bytes of a digest that are shown."""
BAD = {"Refused", "CommandsLost", "ReplyFailed"}
WIDTHS = {"place": 10, "time": 23, "session": 36, "v": 5, "type": 17}


def header() -> Text:
    return Text(" ".join(name.ljust(width) for name, width in WIDTHS.items()) + " what", style="bold")


def line(recorded: Recorded) -> Text:
    meta, body = recorded.event.meta, recorded.event.body
    cells = {
        "place": str(recorded.place),
        "time": f"{meta.time:%Y-%m-%d %H:%M:%S}.{meta.time.microsecond // 1000:03}",
        "session": meta.aggregate_id,
        "v": str(meta.version or "-"),
        "type": type(body).__name__,
    }
    text = " ".join(cells[name].ljust(width) for name, width in WIDTHS.items())
    return Text(f"{text} {what(body)}", style="red" if cells["type"] in BAD else "")


def timeline(session: str, recorded: list[Recorded]) -> Table:
    """Times are counted from the session's start."""
    table = Table(title=f"Session {session}", title_justify="left", box=None, pad_edge=False)
    for column in ("place", "after", "v", "type", "by"):
        table.add_column(column, no_wrap=True)
    table.add_column("what", overflow="fold", ratio=1)
    begun = recorded[0].event.meta.time
    for one in recorded:
        meta, body = one.event.meta, one.event.body
        after = f"+{(meta.time - begun).total_seconds():.3f} s"
        table.add_row(str(one.place), after, str(meta.version or "-"), type(body).__name__, Text(meta.actor), Text(what(body)))
    return table


def what(body: Struct) -> str:
    """A body's fields on one line; control characters of what people and models wrote are shown, not obeyed."""
    return "  ".join(_told(body))


def _told(value: Struct) -> Iterable[str]:
    for field in fields(value):
        given = getattr(value, field.name)
        if given not in (None, "", (), {}, field.default):
            yield f"{field.name}={_brief(given)}"


def _brief(value: Any) -> str:
    match value:
        case Sealed():
            return f"<sealed with {value.key_id}>"
        case Struct():
            return f"{{{' '.join(_told(value))}}}"
        case tuple():
            return f"[{', '.join(map(_brief, value))}]"
        case dict():
            return f"{{{' '.join(f'{name}={_brief(each)}' for name, each in value.items())}}}"
        case datetime():
            return value.isoformat(timespec="seconds")
        case bytes():
            return f"{value[:DIGEST].hex()}…"
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
    return text if len(text) <= TEXT else f"{text[:TEXT]}…"
