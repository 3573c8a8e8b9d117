"""What a session holds of its tenant's budget. `commands/budget.py` is the other side.

It draws before the first effect that what it holds does not cover, and again only once it was answered; while a draw is open nothing of
the session begins. So each draw says exactly what was used since the last one.
"""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from commands.amounts import NOTHING, fits, minus, plus
from schemas.types.common import Amounts
from schemas.types.session import AllotmentAsked, AllotmentReceived

ANSWER_SECONDS = 30
"""A turn waits so long for the budget's answer."""
RETURN_SECONDS = 10
"""So long an idle session keeps what it holds, for the next message may need it."""


class Ask(Struct, frozen=True, array_like=True):
    """A draw that is not answered yet: whoever owns the session sends it, again and again (rule 11)."""

    draw: int
    used: Amounts
    need: Amounts
    wish: Amounts
    asked: datetime


class Account(Struct, frozen=True, array_like=True):
    """`draw` is the last one's number; `used` what was used since then, of what is `granted`.

    At `returns_at` a session that rests gives it back.
    """

    draw: int = 0
    granted: Amounts = NOTHING
    used: Amounts = NOTHING
    ask: Ask | None = None
    returns_at: datetime | None = None


def covers(account: Account, bound: Amounts) -> bool:
    """Whether an effect that takes this much at most may begin."""
    return account.ask is None and fits(plus(account.used, bound), account.granted)


def ask(account: Account, need: Amounts, wish: Amounts, now: datetime, deadline: datetime | None) -> AllotmentAsked:
    """The next draw; or the open one again, whose answer has to come first."""
    if last := account.ask:
        return AllotmentAsked(draw=last.draw, used=last.used, need=last.need, wish=last.wish, asked=last.asked, deadline=deadline)
    return AllotmentAsked(draw=account.draw + 1, used=account.used, need=need, wish=wish, asked=now, deadline=deadline)


def give_back(account: Account, now: datetime) -> AllotmentAsked | None:
    """The draw by which a session that rests gives back what it holds; None where it is not due."""
    due = returns(account)
    return ask(account, NOTHING, NOTHING, now, None) if due and now >= due else None


def returns(account: Account | None) -> datetime | None:
    """When a session that rests is to give back what it holds, if there is something to say."""
    return None if account is None or account.ask or settled(account) else account.returns_at


def settled(account: Account) -> bool:
    """Whether the budget knows all that was used, and holds nothing for it."""
    return account.ask is None and account.granted == account.used == NOTHING


def resting(account: Account, now: datetime) -> Account:
    """From now on it may lie unused."""
    return replace(account, returns_at=now + timedelta(seconds=RETURN_SECONDS))


def over(account: Account | None, now: datetime) -> Account | None:
    """Of a session that has ended: it gives back at once; None once there is nothing to give."""
    return None if account is None or settled(account) else replace(account, returns_at=now)


def spent(account: Account | None, used: Amounts) -> Account | None:
    return account and replace(account, used=plus(account.used, used))


def asked(account: Account, body: AllotmentAsked) -> Account:
    """After a draw was recorded."""
    return replace(account, draw=body.draw, ask=Ask(body.draw, body.used, body.need, body.wish, body.asked))


def received(account: Account, body: AllotmentReceived) -> Account:
    """After its answer. One that is stale was not counted: the next draw says again what was used. Raises ValueError where none is open."""
    if account.ask is None or account.ask.draw != body.draw:
        raise ValueError(f"draw {body.draw} is not open")
    used = account.used if body.code == "stale" else minus(account.used, account.ask.used)
    return replace(account, granted=body.granted or NOTHING, used=used, ask=None)


def until(now: datetime, end: datetime | None) -> datetime:
    """When a turn that waits for an answer ends: with the session's wall time at the latest."""
    deadline = now + timedelta(seconds=ANSWER_SECONDS)
    return min(deadline, end) if end else deadline
