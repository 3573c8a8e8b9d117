"""How places in the log are written for people and programs.

A *position* `3:41` is where a command stands, of the newest epoch: the consistency token. A *place* `e3-41` is where an event stands,
written so that it cannot be taken for a position.
"""

import re
from datetime import datetime
from typing import NamedTuple

from schemas.ids import MAX_PARTITIONS

_POSITION = re.compile(r"([0-9]{1,4}):([0-9]{1,18})")
_PLACE = re.compile(r"e([0-9]{1,4})-([0-9]{1,18})")
SHOWN = 100
"""Characters of a text that is none of these that are repeated."""


class Position(NamedTuple):
    """Partition and offset in the commands topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class Place(NamedTuple):
    """Partition and offset in the events topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"e{self.partition}-{self.offset}"


Moment = int | Position | datetime
"""A session's past: after a version, after a command, or at a time."""


def position(text: str) -> Position:
    """Reads `3:41`. Raises ValueError."""
    return Position(*_numbers(_POSITION, text, "no position: write partition:offset, as in 3:41"))


def place(text: str) -> Place:
    """Reads `e3-41`. Raises ValueError."""
    return Place(*_numbers(_PLACE, text, "no place in the events: write e, the partition, a dash and the offset, as in e3-41"))


def moment(text: str) -> Moment:
    """Reads what `as_of` names: a version (12), a command's position (3:41) or a time (RFC 3339). Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    if _POSITION.fullmatch(text):
        return position(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:SHOWN]!r} is none of: a version (12), a position (3:41), a time (2026-01-31T12:00:00Z)") from None
    if time.tzinfo is None:
        raise ValueError(f"{text[:SHOWN]!r} names no time zone: end it with Z, or with an offset as RFC 3339 writes it")
    return time


def _numbers(form: re.Pattern[str], text: str, rule: str) -> tuple[int, int]:
    found = form.fullmatch(text)
    if found is None or int(found[1]) >= MAX_PARTITIONS:
        raise ValueError(f"{text[:SHOWN]!r} is {rule}")
    return int(found[1]), int(found[2])
