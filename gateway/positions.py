"""Places that callers name: positions of commands, places of events, moments of a session's past."""

import re
from datetime import datetime
from typing import NamedTuple, Self

from gateway.problems import Malformed
from schemas.ids import MAX_PARTITIONS

_POSITION = re.compile(r"([0-9]{1,4}):([0-9]{1,18})")
_PLACE = re.compile(r"e([0-9]{1,4})-([0-9]{1,18})")


class Position(NamedTuple):
    """Where a command stands, of the newest epoch: the consistency token, written `partition:offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Malformed."""
        return cls(*_numbers(_POSITION, text, "a position is written partition:offset, for example 0:42"))


class Place(NamedTuple):
    """Where an event stands, written so that it cannot be taken for a position: `e0-41`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"e{self.partition}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Malformed."""
        return cls(*_numbers(_PLACE, text, "the id of an event is its place, for example e0-41"))


Moment = int | Position | datetime
"""A session's past: after a version, after a command, or at a time."""


def moment(text: str) -> Moment:
    """What `as_of` names: `12` a version, `0:42` a position, `2026-01-31T12:00:00Z` a time. Raises Malformed."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    if _POSITION.fullmatch(text):
        return Position.parse(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"as_of={text!r} is no version (12), no position (0:42) and no time (2026-01-31T12:00:00Z).") from None
    if time.tzinfo is None:
        raise Malformed(f"as_of={text!r} names no time zone: end it with Z, or with an offset as RFC 3339 writes it.")
    return time


def _numbers(form: re.Pattern[str], text: str, rule: str) -> tuple[int, int]:
    match = form.fullmatch(text)
    if match is None or int(match[1]) >= MAX_PARTITIONS:
        raise Malformed(f"{text[:100]!r} cannot be read: {rule}.")
    return int(match[1]), int(match[2])
