"""What the processor needs to know of a kind of aggregate."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, Never

from commands.decision import Refusal
from schemas.chain import digest


@dataclass(frozen=True)
class Noun:
    """An aggregate's topics, its decider, and what its states wait for. One instance a noun, beside its effects.

    `results` are the commands that report an effect: they are never turned away for their number. `reported` says that they come
    without end, and that one which is taken twice does no harm: then of their ids only the last ones are remembered.
    `sources` are the modules that fold: a snapshot made by other code is not used (rule 8).
    """

    name: str
    commands: str
    events: str
    snapshots: str
    command: type[Any]
    event: type[Any]
    initial: Any
    state: Any
    decide: Callable[[Any, Any], list[Any] | Refusal]
    evolve: Callable[[Any, Any], Any]
    outstanding: Callable[[Any], Any]
    due: Callable[[Any], datetime | None]
    when_due: Callable[[Any, str], tuple[str, Any]]
    keeps_place: Callable[[Any], bool]
    results: tuple[type[Any], ...]
    sources: tuple[ModuleType, ...]
    reported: bool = False

    def fingerprint(self) -> str:
        """Changes with the code that folds."""
        return digest("".join(map(inspect.getsource, self.sources)).encode()).hex()


def waits_for_nothing(_: Any) -> None:
    """`outstanding` of a noun whose states wait for nobody."""


def keeps_nothing(_: Any) -> bool:
    """`keeps_place` of a noun whose records nobody reads by their places."""
    return False


def has_no_deadline(_: Any) -> datetime | None:
    """`due` of a noun about which the clock changes nothing."""


def never_due(state: Any, id: str) -> Never:
    """`when_due` of such a noun. Raises ValueError."""
    raise ValueError(f"{type(state).__name__} has no deadline: {id}")
