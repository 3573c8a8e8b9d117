"""Amounts of what can be budgeted: tokens, money, tool calls, turns."""

from collections.abc import Callable

from schemas.types.common import Amounts

DIMENSIONS = ("tokens", "cost_micros", "calls", "turns")
NOTHING = Amounts()


def plus(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(
        tokens=one.tokens + other.tokens,
        cost_micros=one.cost_micros + other.cost_micros,
        calls=one.calls + other.calls,
        turns=one.turns + other.turns,
    )


def minus(one: Amounts, other: Amounts) -> Amounts:
    return plus(one, times(other, -1))


def times(one: Amounts, factor: int) -> Amounts:
    return by_dimension(lambda name: factor * getattr(one, name))


def fits(wanted: Amounts, left: Amounts) -> bool:
    """Whether there is enough of each."""
    return all(getattr(wanted, name) <= getattr(left, name) for name in DIMENSIONS)


def by_dimension(amount: Callable[[str], int]) -> Amounts:
    """What `amount` gives for the name of each dimension."""
    return Amounts(**{name: amount(name) for name in DIMENSIONS})
