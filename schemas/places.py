"""How places in the log are written for people and programs.

A *position* `3:41` is where a command stands: the consistency token. A *place* `e3-41` is where an event stands, written so that it
cannot be taken for a position.
"""

import re
from datetime import datetime
from typing import NamedTuple


class CommandPosition(NamedTuple):
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


AsOf = int | CommandPosition | datetime


def position(text: str) -> CommandPosition:
    """Reads `3:41`. Raises ValueError."""
    if not (found := re.fullmatch(r"(\d{1,4}):(\d{1,18})", text, re.ASCII)):
        raise ValueError(f"{text!r} is no position: write partition:offset, as in 3:41")
    return CommandPosition(int(found[1]), int(found[2]))


def place(text: str) -> Place:
    """Reads `e3-41`. Raises ValueError."""
    if not (found := re.fullmatch(r"e(\d{1,4})-(\d{1,18})", text, re.ASCII)):
        raise ValueError(f"{text!r} is no place in the events: write e, the partition, a dash and the offset, as in e3-41")
    return Place(int(found[1]), int(found[2]))


def as_of(text: str) -> AsOf:
    """Reads a moment of a session: a version (12), a command's position (3:41) or a time (RFC 3339). Raises ValueError."""
    if re.fullmatch(r"\d{1,18}", text, re.ASCII):
        return int(text)
    if ":" in text and "-" not in text:
        return position(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is none of: a version (12), a position (3:41), a time (2026-01-31T12:00:00Z)") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC: write it as 2026-01-31T12:00:00Z")
    return moment
