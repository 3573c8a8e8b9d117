"""Places that callers name: positions of commands, places of events, moments of a session's past (schemas/places.py)."""

from collections.abc import Callable
from typing import TypeVar

from gateway.problems import Malformed
from schemas import places
from schemas.places import Moment, Place, Position

__all__ = ["Moment", "Place", "Position", "moment", "place", "position"]

T = TypeVar("T")


def position(text: str) -> Position:
    """Reads `0:42`. Raises Malformed."""
    return _read(places.position, text)


def place(text: str) -> Place:
    """Reads `e0-41`. Raises Malformed."""
    return _read(places.place, text)


def moment(text: str) -> Moment:
    """Reads what `as_of` names: `12` a version, `0:42` a position, `2026-01-31T12:00:00Z` a time. Raises Malformed."""
    return _read(places.moment, text)


def _read(form: Callable[[str], T], text: str) -> T:
    try:
        return form(text)
    except ValueError as error:
        raise Malformed(f"{error}.") from None
