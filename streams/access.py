"""The key as the generic processor sees it. Nothing waits for anybody here, and no clock changes it."""

from datetime import datetime
from typing import Any, Never

from commands import access
from schemas.types import access as types
from schemas.types import common
from streams import aggregate
from streams.noun import Noun


def _nothing(_: Any) -> None:
    """A key waits for nobody."""


def _never(_: Any) -> datetime | None:
    """Whoever checks a key compares times: its expiry changes no state."""


def _no_command(state: Any, id: str) -> Never:
    raise ValueError(f"{type(state).__name__} has no deadline: {id}")


def _no_place(_: Any) -> bool:
    return False


ACCESS = Noun(
    name="access",
    commands="soma.access.commands",
    events="soma.access.events",
    snapshots="soma.access.snapshots",
    command=types.AccessCommand,
    event=types.AccessEvent,
    initial=access.initial,
    state=access.State,
    decide=access.decide,
    evolve=access.evolve,
    outstanding=_nothing,
    due=_never,
    when_due=_no_command,
    keeps_place=_no_place,
    results=(types.NoteUse,),
    sources=(access, aggregate, types, common),
    reported=True,
)
