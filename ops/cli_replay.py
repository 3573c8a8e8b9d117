"""`soma events`, `soma show`, `soma export`: the record, for people and for pipes."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ops import cancelled, kafka
from ops import settings as environment
from ops.log import Log
from ops.replay import EVENTS, Filter, Recorded, Replay, as_json
from schemas import places
from schemas.types.common import Sealed
from schemas.types.session import SessionEvent

Session = Annotated[str | None, typer.Option(help="Only this session.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d"], help="From this time on.")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d"], help="Before this time.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

out = Console()
err = Console(stderr=True)
POLL_SECONDS = 0.3
TEXT = 80


def events(  # noqa: PLR0913, PLR0917 - each argument is an option of the command
    context: typer.Context,
    session: Session = None,
    types: Types = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    first: Annotated[str | None, typer.Option("--from", help="beginning, or a place such as e3-41.")] = None,
    last: Annotated[int, typer.Option("--last", min=0, max=1_000_000, help="Without --from: so many records, the last ones.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is recorded from now on.")] = False,
    json: AsJson = False,
) -> None:
    """Show events: the last ones, or a range, filtered."""
    if context.invoked_subcommand:
        return
    replay, wanted = _replay(), Filter(session, frozenset(types or ()), tenant, _aware(since), _aware(until))
    with _wrong_use():
        ends = replay.ends(replay.partitions(wanted))
        starts = _starts(ends, first, everything=bool(session or since or types or tenant), last=last)
    if not json:
        out.print(_header(), highlight=False, soft_wrap=True)
    found = replay.range(wanted, starts, ends)
    _print(found if first or session or since else deque(found, maxlen=last), json)
    while follow:
        time.sleep(POLL_SECONDS)
        starts, ends = ends, replay.ends(list(ends))
        _print(replay.range(wanted, starts, ends), json)


def show(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    as_of: Annotated[str | None, typer.Option(help="Up to a version (12), a command's position (3:41) or a time.")] = None,
    json: AsJson = False,
) -> None:
    """Show a session's timeline, from its record; and where it was cancelled, which effect was at what point then."""
    replay = _replay()
    with _wrong_use():
        moment = places.as_of(as_of) if as_of else None
        ends = replay.ends(replay.partitions(Filter(session)))
    with _progress(sum(ends.values())) as seen:
        recorded = list(replay.timeline(session, moment, seen))
    if not recorded:
        err.print(f"There is no session {session} in the record.")
        raise typer.Exit(1)
    if json:
        _print(recorded, json=True)
    else:
        out.print(_timeline(session, recorded))
        if lines := cancelled.told(one.event for one in recorded):
            out.print("\nWhen the cancel came:", *lines, sep="\n  ", highlight=False, soft_wrap=True, markup=False)


def export(
    path: Annotated[Path, typer.Argument(help="A file that ends in .jsonl or .parquet.")],
    session: Session = None,
    types: Types = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    history: Annotated[bool, typer.Option("--history", help="Commands with their events, as .jsonl.gz: all of it.")] = False,
) -> None:
    """Write the record, or a part of it, to a file for analysis."""
    if history:
        _export_history(path, whole=not (session or types or tenant or since or until))
        return
    from ops.export import write_jsonl, write_parquet  # pyarrow takes a second to import

    writers = {".jsonl": write_jsonl, ".parquet": write_parquet}
    if path.suffix not in writers:
        raise typer.BadParameter("must end in .jsonl or .parquet", param_hint="PATH")
    replay, wanted = _replay(), Filter(session, frozenset(types or ()), tenant, _aware(since), _aware(until))
    with _wrong_use():
        ends = replay.ends(replay.partitions(wanted))
    partial = path.with_name(path.name + ".partial")
    with _progress(sum(ends.values())) as seen:
        count = writers[path.suffix](replay.range(wanted, dict.fromkeys(ends, 0), ends, seen), partial)
    partial.replace(path)
    err.print(f"{count} records written to {path}")


def _export_history(path: Path, *, whole: bool) -> None:
    from ops.cli_diff import live

    if not whole or not path.name.endswith(".jsonl.gz"):
        raise typer.BadParameter("--history writes everything, to a file that ends in .jsonl.gz", param_hint="PATH")
    live(path.with_name(path.name + ".partial")).replace(path)
    err.print(f"the history is written to {path}")


def _replay() -> Replay:
    from schemas.registry import Registry

    settings = environment.load()
    registry = Registry(kafka.registry(settings))
    return Replay(Log(kafka.confluent(settings)), registry, registry.codec(EVENTS, SessionEvent))


def _starts(ends: dict[int, int], first: str | None, *, everything: bool, last: int) -> dict[int, int]:
    if first is None and not everything:
        return {partition: max(end - last, 0) for partition, end in ends.items()}
    if first in (None, "beginning"):
        return dict.fromkeys(ends, 0)
    place = places.place(first or "")
    if place.partition not in ends:
        raise ValueError(f"there is no partition {place.partition} to read here")
    others = {partition: end for partition, end in ends.items() if partition != place.partition}
    return {place.partition: place.offset} | others


def _aware(moment: datetime | None) -> datetime | None:
    return moment.astimezone() if moment else None


@contextmanager
def _wrong_use() -> Iterator[None]:
    """A value that cannot be meant is wrong use: exit code 2, and what it should have been."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Shows how many records were read; gives what is to be told of each."""
    columns = TextColumn("reading the record"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda _: progress.advance(task)


def _print(records: Iterable[Recorded], json: bool) -> None:
    for recorded in records:
        if json:
            sys.stdout.write(as_json(recorded).decode() + "\n")
        else:
            out.print(_line(recorded), highlight=False, soft_wrap=True)
    sys.stdout.flush()


WIDTHS = {"place": 10, "time": 23, "session": 36, "v": 5, "type": 17}


def _header() -> Text:
    return Text(" ".join(name.ljust(width) for name, width in WIDTHS.items()) + " what", style="bold")


def _line(recorded: Recorded) -> Text:
    meta, body = recorded.event.meta, recorded.event.body
    cells = {
        "place": str(recorded.place),
        "time": f"{meta.time:%Y-%m-%d %H:%M:%S}.{meta.time.microsecond // 1000:03}",
        "session": meta.aggregate_id,
        "v": str(meta.version or "-"),
        "type": type(body).__name__,
    }
    style = "red" if type(body).__name__ in ("Refused", "CommandsLost", "ReplyFailed") else ""
    return Text(" ".join(cells[name].ljust(width) for name, width in WIDTHS.items()) + " " + _what(body), style=style)


def _timeline(session: str, recorded: list[Recorded]) -> Table:
    table = Table(title=f"Session {session}", title_justify="left", box=None, pad_edge=False)
    for column in ("place", "after", "v", "type", "by", "what"):
        table.add_column(column, overflow="fold")
    begun = recorded[0].event.meta.time
    for one in recorded:
        meta = one.event.meta
        after = f"+{(meta.time - begun).total_seconds():.3f} s"
        table.add_row(str(one.place), after, str(meta.version or "-"), type(one.event.body).__name__, meta.actor, _what(one.event.body))
    return table


def _what(body: Any) -> str:
    """A body's fields on one line; control characters of what people and models wrote are shown, not obeyed."""
    pairs = [(name, getattr(body, name)) for name in body.__struct_fields__]
    return "  ".join(f"{name}={_brief(value)}" for name, value in pairs if value not in (None, {}))


def _brief(value: Any) -> str:
    if isinstance(value, Sealed):
        return f"<sealed with {value.key_id}>"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
    return text if len(text) <= TEXT else f"{text[:TEXT]}…"
