"""`soma replay-diff`: what an upgrade would change, before it is deployed."""

import difflib
import json as plain
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml
from rich.console import Console
from rich.text import Text

from ops import history, kafka
from ops import settings as environment
from ops.log import Log
from ops.replay_diff import CannotCompare, Difference, Report, compare, tree

out = Console()
COLOURS = {"+": "green", "-": "red"}


def replay_diff(
    against: Annotated[str, typer.Option(help="The other version: a directory with its code, or a git ref of this repository.")],
    kept: Annotated[Path | None, typer.Option("--history", help="A kept history instead of the live log.")] = None,
    accept: Annotated[Path | None, typer.Option(help="YAML: difference id → why it is well.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Decide what was recorded again with another version of the deciders, and show every command that it decides otherwise."""
    try:
        accepted = accepted_in(accept) if accept else {}
        with tempfile.TemporaryDirectory(prefix="soma-history-") as directory, tree(against) as other:
            report = compare(kept or live(Path(directory) / "live.jsonl.gz"), other, accepted)
    except (CannotCompare, ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    if json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        show(report)
    raise typer.Exit(1 if report.wrong else 0)


def accepted_in(path: Path) -> dict[str, str]:
    """Raises ValueError."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()) or {}, dict[str, str])
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{path} does not say `difference id: reason` line by line: {error}") from error


def live(path: Path) -> Path:
    """The live log, as a history in a file."""
    from schemas.registry import Registry

    settings = environment.load()
    history.write(history.recorded(Log(kafka.confluent(settings)), Registry(kafka.registry(settings))), path)
    return path


def show(report: Report) -> None:
    for difference in report.differences:
        _show(difference)
    out.print(
        f"{report.decided} commands decided again, {len(report.differences)} differences, of which {len(report.wrong)} are not accepted.\n"
        f"{report.folded} commands are gone by retention: only the states after their records were compared.\n"
        f"{report.passed_over} refusals are not of a decider (misrouted, too large, unreadable): passed over.",
        highlight=False,
    )


def _show(difference: Difference) -> None:
    place = f"{difference.partition}:{difference.offset}"
    out.print(
        f"{difference.noun} {difference.aggregate_id}  command {place} {difference.command}: another {difference.what}",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"  id {difference.id}" + (f"  accepted: {difference.accepted}" if difference.accepted else ""), markup=False, soft_wrap=True)
    for line in list(difflib.unified_diff(_lines(difference.recorded), _lines(difference.other), "recorded", "other", lineterm=""))[2:]:
        out.print(Text(f"  {line}", style=COLOURS.get(line[:1], "")), soft_wrap=True)


def _lines(value: Any) -> list[str]:
    return plain.dumps(value, indent=1, sort_keys=True).splitlines()
