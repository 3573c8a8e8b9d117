"""A tenant's budget: what its sessions may use in all. Each holds an allotment that it drew; what is spent and held never exceeds a limit.

A session draws again only once it was answered, and holds nothing open then: so each draw settles what it used since the last one, and
puts a new allotment in the place of the old one. Its numbers tell a draw that comes again from the next one.
"""

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from commands.amounts import DIMENSIONS, NOTHING, by_dimension, minus, plus
from commands.decision import Refusal
from schemas.ids import named_id
from schemas.types.budget import AllotmentDenied, Allotted, Allowance, BudgetCommand, BudgetEvent, BudgetRenewed, BudgetSet, Draw, SetBudget
from schemas.types.common import Amounts, CommandMeta

NAME = "budget"
"""A tenant has one budget: this is its name, as a tool has one."""
AHEAD = 10
"""A wish is granted up to this part of what is left, so that a few sessions do not hold all of it."""
STALE_SECONDS = 120
"""A session that nobody knows may have asked so long ago; of an older draw it could not be said whether it was counted."""
FORGET_SECONDS = 300
"""So long a session that holds nothing is remembered, by the budget's own clock. The difference is what clocks may differ by."""
PAUSE_SECONDS = 10
"""The budget's own clock goes no further between two events: who was away as long as it was is not forgotten meanwhile."""
MAX_SESSIONS = 5_000
"""Sessions that are known at once: their entries have to fit into one snapshot."""

Body = BudgetSet | BudgetRenewed | Allotted | AllotmentDenied


class Holder(Struct, frozen=True, array_like=True):
    """A session that holds an allotment: the answer to its last draw."""

    draw: int
    granted: Amounts


class Settled(Struct, frozen=True, array_like=True):
    """A session that holds nothing since `clock`: it gave everything back, or was `denied` (the code; empty: it was not)."""

    draw: int
    clock: float
    denied: str


class Pool(Struct, frozen=True, array_like=True):
    """Who has what. `reserved` is the sum of what is held; `at` the time of the last answer, `clock` the seconds that count as passed."""

    spent: Amounts = NOTHING
    reserved: Amounts = NOTHING
    held: dict[str, Holder] = {}
    settled: dict[str, Settled] = {}
    at: datetime | None = None
    clock: float = 0.0


class Unset(Struct, frozen=True, array_like=True, tag=True):
    """Nobody set it: every draw is granted, and counted."""

    pool: Pool = Pool()


class Bounded(Struct, frozen=True, array_like=True, tag=True):
    """It was set. `pool.spent` counts from `since`; after `until` it renews itself at the next draw, or grants nothing."""

    pool: Pool
    limits: Allowance
    renews: bool
    since: datetime
    until: datetime | None


State = Unset | Bounded
initial: State = Unset()
Decision = list[Body] | Refusal


def decide(state: State, command: BudgetCommand) -> Decision:
    """The events that the command leads to in this state (at least one), or why it is refused. Pure (rule 4)."""
    body, meta = command.body, command.meta
    if named_id(meta.tenant, NAME, NAME) != meta.aggregate_id:
        return Refusal("misnamed", "This is not the tenant's budget.")
    match body:
        case SetBudget():
            return _set(state, body, meta.time)
        case Draw():
            return _draw(state, body, meta)
        case _:
            assert_never(body)


def evolve(state: State, event: BudgetEvent) -> State:
    """The state after a versioned event. Total over what `decide` can have decided; raises ValueError on anything else."""
    now = event.meta.time
    match event.body, state:
        case BudgetSet() as body, _:
            return _bounded(state, body)
        case BudgetRenewed(since=since, until=until), Bounded():
            return replace(state, pool=replace(state.pool, spent=NOTHING), since=since, until=until)
        case (Allotted() | AllotmentDenied()) as body, _:
            return replace(state, pool=_answered(state.pool, body, now))
    kind, about = type(event.body).__name__, f"{event.meta.aggregate_id} v{event.meta.version}"
    raise ValueError(f"{kind} cannot follow {type(state).__name__}: {about}")


def at(state: State, now: datetime) -> tuple[list[BudgetRenewed], State]:
    """The budget as a draw at this time finds it: whose window is over has begun another one by then, if it renews."""
    if not isinstance(state, Bounded) or not state.renews or state.until is None or now < state.until or not state.limits.seconds:
        return [], state
    window = timedelta(seconds=state.limits.seconds)
    since = state.until + (now - state.until) // window * window
    renewed = BudgetRenewed(since=since, until=since + window)
    return [renewed], replace(state, pool=replace(state.pool, spent=NOTHING), since=renewed.since, until=renewed.until)


def _set(state: State, body: SetBudget, now: datetime) -> Decision:
    """A window that runs goes on, with what was spent in it; else one begins."""
    _, state = at(state, now)
    since = now
    if isinstance(state, Bounded) and (state.until is None or now < state.until):
        if (state.limits, state.renews) == (body.limits, body.renews):
            return Refusal("unchanged", "This is what the budget says already.")
        since = state.since
    until = since + timedelta(seconds=body.limits.seconds) if body.limits.seconds else None
    return [BudgetSet(limits=body.limits, renews=body.renews, since=since, until=until)]


def _draw(state: State, body: Draw, meta: CommandMeta) -> Decision:
    renewed, state = at(state, meta.time)
    known = _known(state.pool, body.session)
    if known and body.draw < known.draw:
        return Refusal("stale", "A later draw of this session was answered.")
    if known and body.draw == known.draw:
        return [*renewed, _again(state, body, known)]
    if known is None and body.asked < max(meta.time, state.pool.at or meta.time) - timedelta(seconds=STALE_SECONDS):
        reason = "The draw reached the tenant's budget too late to say whether it was counted before."
        return [*renewed, _denied(body, NOTHING, "stale", reason)]
    if known is None and len(state.pool.held) + len(state.pool.settled) >= MAX_SESSIONS:
        return Refusal("full", f"{MAX_SESSIONS} sessions hold an allotment, or did lately: ask again.")
    return [*renewed, _answer(state, body, meta.time)]


def _answer(state: State, body: Draw, now: datetime) -> Allotted | AllotmentDenied:
    """What the session may hold, once what it used is spent and what it held is free."""
    holder = state.pool.held.get(body.session)
    spent = plus(state.pool.spent, body.used)
    others = minus(state.pool.reserved, holder.granted) if holder else state.pool.reserved
    allotted = Allotted(session=body.session, draw=body.draw, used=body.used, granted=body.wish)
    if body.need == NOTHING:
        return replace(allotted, granted=NOTHING)
    if isinstance(state, Unset):
        return allotted
    if state.until and now >= state.until:
        return _denied(body, body.used, "seconds", _reason(state, "seconds"))
    left = _left(state.limits, plus(spent, others))
    short = next((name for name in DIMENSIONS if (rest := left[name]) is not None and getattr(body.need, name) > max(rest, 0)), None)
    if short:
        return _denied(body, body.used, short, _reason(state, short))
    return replace(allotted, granted=by_dimension(lambda name: _share(left[name], getattr(body.need, name), getattr(body.wish, name))))


def _left(limits: Allowance, taken: Amounts) -> dict[str, int | None]:
    """By dimension; None: without limit."""
    return {name: None if (limit := getattr(limits, name)) is None else limit - getattr(taken, name) for name in DIMENSIONS}


def _share(left: int | None, need: int, wish: int) -> int:
    return wish if left is None else max(need, min(wish, left // AHEAD))


def _again(state: State, body: Draw, known: Holder | Settled) -> Allotted | AllotmentDenied:
    """The answer that was given to this draw."""
    if isinstance(known, Settled) and known.denied:
        return _denied(body, NOTHING, known.denied, _reason(state, known.denied))
    granted = known.granted if isinstance(known, Holder) else NOTHING
    return Allotted(session=body.session, draw=body.draw, used=NOTHING, granted=granted)


def _denied(body: Draw, used: Amounts, code: str, reason: str) -> AllotmentDenied:
    return AllotmentDenied(session=body.session, draw=body.draw, used=used, code=code, reason=reason)


def _reason(state: State, code: str) -> str:
    if not isinstance(state, Bounded):
        return f"The tenant's budget was used up: {code}."
    if code == "seconds":
        return f"The tenant's budget ended at {state.until.isoformat() if state.until else 'its time'}. Set another one."
    spent, reserved = getattr(state.pool.spent, code), getattr(state.pool.reserved, code)
    then = f"It begins anew at {state.until.isoformat()}." if state.renews and state.until else "Set a larger one."
    return f"The tenant's budget allows for {getattr(state.limits, code)} {code}: {spent} are spent, {reserved} reserved. {then}"


def _known(pool: Pool, session: str) -> Holder | Settled | None:
    return pool.held.get(session) or pool.settled.get(session)


def _bounded(state: State, body: BudgetSet) -> Bounded:
    goes_on = isinstance(state, Bounded) and state.since == body.since
    pool = state.pool if goes_on else replace(state.pool, spent=NOTHING)
    return Bounded(pool, body.limits, body.renews, body.since, body.until)


def _answered(pool: Pool, body: Allotted | AllotmentDenied, now: datetime) -> Pool:
    """After an answer. One that does not count makes no entry; one that holds nothing is forgotten in time."""
    passed = (now - pool.at).total_seconds() if pool.at else 0.0
    pool = replace(pool, at=now, clock=pool.clock + min(max(passed, 0.0), PAUSE_SECONDS))
    if isinstance(body, AllotmentDenied) and body.code == "stale":
        return pool
    held, settled = dict(pool.held), {id: each for id, each in pool.settled.items() if each.clock > pool.clock - FORGET_SECONDS}
    before = held.pop(body.session, None)
    settled.pop(body.session, None)
    granted = body.granted if isinstance(body, Allotted) else NOTHING
    if granted == NOTHING:
        settled[body.session] = Settled(body.draw, pool.clock, body.code if isinstance(body, AllotmentDenied) else "")
    else:
        held[body.session] = Holder(body.draw, granted)
    reserved = plus(minus(pool.reserved, before.granted) if before else pool.reserved, granted)
    return replace(pool, spent=plus(pool.spent, body.used), reserved=reserved, held=held, settled=settled)
