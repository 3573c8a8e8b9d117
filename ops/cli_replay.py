"""`soma events`, `soma show`, `soma export`: the record, for people and for pipes."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops import cancelled, kafka, timeline
from ops import settings as environment
from ops.log import Log
from ops.replay import EVENTS, Filter, Recorded, Replay, as_json
from ops.settings import Settings
from schemas import places
from schemas.types.session import SessionEvent

Session = Annotated[str | None, typer.Option(help="Only this session.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
TIMES = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%d"]
Since = Annotated[datetime | None, typer.Option(formats=TIMES, help="From this time on.")]
Until = Annotated[datetime | None, typer.Option(formats=TIMES, help="Before this time.")]
Unseal = Annotated[bool, typer.Option("--unseal", help="Open sealed text, with the keys that can be had here (SOMA_SEAL).")]
LAST = 20
"""Records shown where nothing says where they begin."""
Last = Annotated[
    int | None,
    typer.Option(min=0, max=1_000_000, help=f"So many, the last ones; {LAST} unless --from, --session or --since says where they begin."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

WIDE = 160
"""Columns of what is written to a file or a pipe."""
out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True)
POLL_SECONDS = 0.3
T = TypeVar("T")


def events(  # noqa: PLR0913, PLR0917 - each argument is an option of the command
    context: typer.Context,
    session: Session = None,
    types: Types = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    first: Annotated[str | None, typer.Option("--from", help="beginning, or a place such as e3-41.")] = None,
    last: Last = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is recorded from now on.")] = False,
    unseal: Unseal = False,
    json: AsJson = False,
) -> None:
    """Show events: the last ones, or a range, filtered."""
    if context.invoked_subcommand:
        return
    replay = _replay(unseal)
    with _wrong_use():
        wanted = Filter(session, frozenset(types or ()), tenant, _aware(since), _aware(until))
        ends = replay.ends(replay.partitions(wanted))
        most = LAST if last is None and not (first or session or since) else last
        starts = _starts(ends, first, everything=bool(session or since or types or tenant), last=most or 0)
    if not json:
        out.print(timeline.header(), highlight=False, soft_wrap=True)
    found = replay.range(wanted, starts, ends)
    _print(found if most is None else deque(found, maxlen=most), json)
    while follow:
        time.sleep(POLL_SECONDS)
        starts, ends = ends, replay.ends(list(ends))
        _print(replay.range(wanted, starts, ends), json)


def show(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    as_of: Annotated[str | None, typer.Option(help="Up to a version (12), a command's position (3:41) or a time.")] = None,
    unseal: Unseal = False,
    json: AsJson = False,
) -> None:
    """Show a session's timeline, from its record; and where it was cancelled, which effect was at what point then."""
    replay = _replay(unseal)
    with _wrong_use():
        moment = None if as_of is None else places.moment(as_of)
        ends = replay.ends(replay.partitions(Filter(session)))
    with _progress(sum(ends.values())) as seen:
        recorded = list(replay.timeline(session, moment, seen))
    if not recorded:
        err.print(f"There is no session {session} in the record.")
        raise typer.Exit(1)
    if json:
        _print(recorded, json=True)
    else:
        out.print(timeline.timeline(session, recorded))
        if lines := cancelled.told(one.event for one in recorded):
            out.print("\nWhen the cancel came:", *lines, sep="\n  ", highlight=False, soft_wrap=True, markup=False)


def export(  # noqa: PLR0913, PLR0917 - each argument is an option of the command
    path: Annotated[Path, typer.Argument(help="A file that ends in .jsonl or .parquet.")],
    session: Session = None,
    types: Types = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    unseal: Unseal = False,
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
    replay = _replay(unseal)
    with _wrong_use():
        wanted = Filter(session, frozenset(types or ()), tenant, _aware(since), _aware(until))
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


def _replay(unseal: bool) -> Replay:
    from schemas.registry import Registry

    settings = environment.load()
    registry = Registry(kafka.registry(settings))
    log, codec = Log(kafka.confluent(settings)), registry.codec(EVENTS, SessionEvent)
    return Replay(log, registry, codec, opened=_opening(settings)) if unseal else Replay(log, registry, codec)


def _opening(settings: Settings) -> Callable[[SessionEvent], SessionEvent]:
    """Opens what is not erased. Ends the command with exit code 1 where the keys cannot be had."""
    from ops import seal

    seals, runner = _or_exit(lambda: seal.load(settings)), asyncio.Runner()
    if not seals.on:
        _fail("Sealing is off, so nothing can be opened: set SOMA_SEAL as the platform has it.")
    return lambda event: _or_exit(lambda: runner.run(seals.opened(event, event.meta.aggregate_id)))


def _or_exit(step: Callable[[], T]) -> T:
    from ops import seal

    try:
        return step()
    except (seal.BadSeal, seal.KeysDown) as error:
        _fail(str(error))


def _fail(problem: str) -> NoReturn:
    err.print(problem, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


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
            out.print(timeline.line(recorded), highlight=False, soft_wrap=True)
    sys.stdout.flush()
