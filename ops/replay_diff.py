"""What an upgrade would change: recorded histories, decided again by another version of the deciders, in a process of its own.

Every command is decided in the state that the record led to, not in the one that the other version would have led to: so each difference
stands for itself, and none follows from another.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from ops.history import Entry, read

HERE = Path(__file__).parents[1]
ROOMS = ("commands", "schemas", "streams", "ops")
"""What deciders are made of, and what describes them to the processor."""
TEXT_OF_REFUSALS = ("reason", "first")


class CannotCompare(Exception):
    """There is no such version, or its code does not run here; says what to do."""


class Difference(Struct, frozen=True):
    """One command that the other version takes otherwise. `accepted` is the reason why that is well, if somebody gave one."""

    id: str
    noun: str
    partition: int
    offset: int
    command: str
    aggregate_id: str
    what: str
    recorded: Any
    other: Any
    accepted: str | None = None


class Report(Struct):
    """What was compared, and what differs."""

    decided: int = 0
    folded: int = 0
    passed_over: int = 0
    differences: list[Difference] = []

    @property
    def wrong(self) -> list[Difference]:
        """Those that nobody accepted."""
        return [each for each in self.differences if each.accepted is None]


def compare(history: Path, against: Path, accepted: Mapping[str, str]) -> Report:
    """Decide the history again by the deciders in the tree `against`. Raises CannotCompare; ValueError where it is no history."""
    report = Report(differences=[])
    with _answers(HERE, history) as ours, _answers(against, history) as theirs:
        forms = next(ours), next(theirs)
        for entry, own, other in zip(read(history), ours, theirs, strict=True):
            same_form = forms[0][entry.noun] == forms[1][entry.noun]
            if (found := _difference(report, entry, own, other, same_form)) is not None:
                what, recorded, decided = found
                report.differences.append(_described(entry, what, recorded, decided, accepted.get(entry.id)))
    return report


@contextmanager
def tree(against: str) -> Iterator[Path]:
    """The directory that a path names, or the code of a git ref of this repository. Raises CannotCompare."""
    path = Path(against)
    if (path / "commands").is_dir():
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soma-replay-") as directory:
        command = ["git", "-C", str(HERE), "archive", "--format=tar", f"--output={directory}/tree.tar", "--end-of-options", against, *ROOMS]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise CannotCompare(f"{against!r} is no directory with `commands/` in it, and no ref of this repository: {ran.stderr.strip()}")
        with tarfile.open(f"{directory}/tree.tar") as archive:
            archive.extractall(directory, filter="data")
        yield Path(directory)


@contextmanager
def _answers(root: Path, history: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """What the code of a tree says, line by line. Raises CannotCompare where it ends before its time."""
    command = [sys.executable, "-P", str(HERE / "ops" / "replay_child.py"), str(root), str(history)]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd="/") as child:
        assert child.stdout
        try:
            yield _lines(child, errors, root)
        finally:
            child.kill()


def _lines(child: "subprocess.Popen[bytes]", errors: Any, root: Path) -> Iterator[dict[str, Any]]:
    for line in child.stdout or ():
        yield json.loads(line)
    if child.wait():
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()[-3:]
        raise CannotCompare(f"The code in {root} cannot be run here:\n" + "\n".join(said))


Found = tuple[str, Any, Any]


def _difference(report: Report, entry: Entry, own: dict[str, Any], other: dict[str, Any], same_form: bool) -> Found | None:
    """What the other version makes otherwise of one entry, and count how it was compared."""
    if "problem" in other:
        return "fold", own.get("recorded"), other["problem"]
    if "decided" in other:
        report.decided += 1
        recorded, decided = _essence(other["recorded"]), _essence(other["decided"])
        return None if recorded == decided else ("decision", recorded, decided)
    if entry.command is not None or "problem" in own:
        report.passed_over += 1
        return None
    report.folded += 1
    if same_form:
        return (
            None
            if own["fold"] == other["fold"]
            else ("state", own["waits"] | {"state": own["fold"]}, other["waits"] | {"state": other["fold"]})
        )
    return None if own["waits"] == other["waits"] else ("state", own["waits"], other["waits"])


def _essence(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A decision without what a refusal says to people: those words may change."""
    return [{name: value for name, value in body.items() if body["type"] != "Refused" or name not in TEXT_OF_REFUSALS} for body in bodies]


def _described(entry: Entry, what: str, recorded: Any, other: Any, accepted: str | None) -> Difference:
    meta = entry.events[0]["meta"]
    return Difference(
        id=entry.id,
        noun=entry.noun,
        partition=entry.partition,
        offset=meta["command"]["offset"],
        command=entry.command["body"]["type"] if entry.command else "a command that is gone",
        aggregate_id=meta["aggregate_id"],
        what=what,
        recorded=recorded,
        other=other,
        accepted=accepted,
    )
