"""Definitions and calls, with what a test does not care about filled in."""

from pathlib import Path
from typing import Any

from schemas.types.tool import Definition
from streams.tools.egress import Guard
from streams.tools.running import Call, Ways
from streams.tools.secrets import Secrets
from tests.streams.tools import foreign

OPEN = Guard(["127.0.0.1"])
"""Lets tools reach the servers of the tests."""


def definition(**fields: Any) -> Definition:
    """A definition that is right as soon as it says what runs the tool."""
    given: dict[str, Any] = {
        "name": "tool",
        "description": "Does something.",
        "parameters": '{"type": "object"}',
        "repeat": "safe",
        "timeout_seconds": 10,
        "attempts": 3,
        "approval": "never",
    }
    return Definition(**{**given, **fields})


def call(seconds: float = 20, **arguments: Any) -> Call:
    return Call("call-1", "session-1", "default", arguments, seconds)


def ways(guard: Guard = OPEN, **fields: Any) -> Ways:
    return Ways(**{"guard": guard, "secrets": Secrets(None, {}), **fields})


def install(packages: Path) -> None:
    """Make this directory one that holds the functions of `foreign` as entry points of a package: for the path of child processes."""
    (packages / "foreign-1.dist-info").mkdir(parents=True)
    (packages / "foreign_tools.py").write_text(Path(foreign.__file__).read_text())
    (packages / "foreign-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1\n")
    names = [name for name in vars(foreign) if callable(getattr(foreign, name)) and name not in ("Any", "Path")]
    points = [f"{name} = foreign_tools:{name}" for name in names] + ["absent = foreign_tools:absent"]
    (packages / "foreign-1.dist-info" / "entry_points.txt").write_text("\n".join(["[soma.tools]", *points]))
