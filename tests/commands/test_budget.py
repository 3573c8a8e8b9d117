"""A tenant's budget: its owner's decider alone, then with the deciders of the sessions that draw from it."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import budget, session
from commands.allotment import Ask
from commands.amounts import DIMENSIONS, NOTHING, fits, plus
from commands.budget import AHEAD, FORGET_SECONDS, MAX_SESSIONS, PAUSE_SECONDS, Bounded, Pool, State, Unset
from commands.call import Queued, Running
from commands.decision import Refusal
from commands.situation import Acting, Drawing, Ended, Idle, Thinking, calls
from commands.talk import amounts, reserved
from schemas.ids import named_id
from schemas.types.budget import (
    AllotmentDenied,
    Allotted,
    Allowance,
    BudgetCommand,
    BudgetEvent,
    BudgetRenewed,
    BudgetSet,
    Draw,
    SetBudget,
)
from schemas.types.common import Amounts, CommandMeta, EventMeta, Position, Usage
from schemas.types.session import CancelSession, PostMessage, RecordAllotment, RecordReply, StartSession
from tests.commands.test_call import begin, result, tool, wish
from tests.commands.test_session import NOON, Story, kinds

HOME = named_id("t", "budget", "budget")
DAY = 86_400


def of(**amounts: int) -> Amounts:
    return Amounts(**amounts)


def draw(number: int, need: Amounts, used: Amounts = NOTHING, by: str = "s1", asked: datetime = NOON, **about: Amounts) -> Draw:
    return Draw(session=by, draw=number, used=used, need=need, wish=about.get("wish", need), asked=asked)


def set_to(renews: bool = False, **limits: int) -> SetBudget:
    return SetBudget(limits=Allowance(**limits), renews=renews)


class Owner:
    """The budget's decider, and what it has decided."""

    def __init__(self) -> None:
        self.state: State = budget.initial
        self.version = 0

    def given(self, *bodies: Any) -> "Owner":
        for body in bodies:
            assert not isinstance(self.when(body), Refusal), f"given {body} must be possible"
        return self

    def when(self, body: Any, at: datetime = NOON, tenant: str = "t") -> Any:
        meta = CommandMeta(id="c", aggregate_id=HOME, tenant=tenant, actor="a", time=at)
        decided = budget.decide(self.state, BudgetCommand(meta=meta, body=body))
        for event in [] if isinstance(decided, Refusal) else decided:
            self.fold(event, at)
        return decided

    def fold(self, body: Any, at: datetime) -> None:
        self.version += 1
        meta = EventMeta(
            id="e", aggregate_id=HOME, version=self.version, sequence=self.version, previous=bytes(16), versions=self.version, tenant="t",
            actor="a", time=at, command_id="c", command=Position(epoch="e", partition=0, offset=self.version), index=0, count=1,
            origin="test",
        )  # fmt: skip
        self.state = budget.evolve(self.state, BudgetEvent(meta=meta, body=body))

    @property
    def pool(self) -> Pool:
        return self.state.pool


def test_a_draw_is_granted_while_it_fits_beside_what_others_hold_and_names_what_is_used_up() -> None:
    owner = Owner().given(set_to(calls=10))
    [first] = owner.when(draw(1, of(calls=7), by="s1"))
    assert first == Allotted(session="s1", draw=1, used=NOTHING, granted=of(calls=7))
    [second] = owner.when(draw(1, of(calls=4), by="s2"))
    assert (second.code, second.session) == ("calls", "s2")
    assert "allows for 10 calls: 0 are spent, 7 reserved" in second.reason
    assert kinds(owner.when(draw(1, of(calls=3), by="s3"))) == [Allotted]


def test_a_draw_settles_what_was_used_and_frees_the_rest_of_what_was_held() -> None:
    owner = Owner().given(set_to(calls=10), draw(1, of(calls=7)), draw(2, of(calls=1), of(calls=5)))
    assert (owner.pool.spent, owner.pool.reserved) == (of(calls=5), of(calls=1))
    owner.given(draw(3, NOTHING, of(calls=1)))
    assert (owner.pool.spent, owner.pool.reserved, owner.pool.held) == (of(calls=6), NOTHING, {})


def test_what_was_used_counts_even_when_the_draw_is_denied() -> None:
    owner = Owner().given(set_to(calls=2), draw(1, of(calls=2)))
    [denied] = owner.when(draw(2, of(calls=1), of(calls=2)))
    assert isinstance(denied, AllotmentDenied)
    assert (owner.pool.spent, owner.pool.reserved) == (of(calls=2), NOTHING)


def test_a_wish_is_granted_only_where_plenty_is_left_in_each_dimension_by_itself() -> None:
    owner = Owner().given(set_to(calls=100, tokens=1_000))
    [allotted] = owner.when(draw(1, of(calls=1, tokens=500), wish=of(calls=5, tokens=900, turns=4)))
    assert allotted.granted == of(calls=5, tokens=500, turns=4)
    [allotted] = owner.when(draw(1, of(calls=1), wish=of(calls=50), by="s2"))
    assert allotted.granted.calls == 95 // AHEAD


def test_a_budget_that_nobody_set_grants_and_counts() -> None:
    owner = Owner()
    [allotted] = owner.when(draw(1, of(calls=1), wish=of(calls=5)))
    assert allotted.granted == of(calls=5)
    owner.given(draw(2, NOTHING, of(calls=3)))
    assert owner.state == Unset(owner.pool)
    assert owner.pool.spent == of(calls=3)


def test_the_same_draw_again_gets_the_same_answer_and_counts_once_and_an_earlier_one_none() -> None:
    owner = Owner().given(set_to(calls=10), draw(1, of(calls=2)), draw(2, of(calls=3), of(calls=2)))
    before = owner.pool
    [again] = owner.when(draw(2, of(calls=3), of(calls=2)))
    assert again == Allotted(session="s1", draw=2, used=NOTHING, granted=of(calls=3))
    assert owner.when(draw(1, of(calls=2))).code == "stale"
    assert (owner.pool.spent, owner.pool.reserved, owner.pool.held) == (before.spent, before.reserved, before.held)


def test_a_denial_is_repeated_as_one() -> None:
    owner = Owner().given(set_to(calls=1), draw(1, of(calls=2)))
    [again] = owner.when(draw(1, of(calls=2)))
    assert (again.code, again.used) == ("calls", NOTHING)


def test_after_its_window_a_budget_denies_or_renews_itself_at_the_next_draw_and_keeps_what_is_reserved() -> None:
    late = NOON + timedelta(seconds=2.5 * DAY)
    ended = Owner().given(set_to(calls=10, seconds=DAY), draw(1, of(calls=4)))
    [denied] = ended.when(draw(2, of(calls=1), of(calls=4), asked=late), late)
    assert denied.code == "seconds"
    renewing = Owner().given(set_to(renews=True, calls=10, seconds=DAY), draw(1, of(calls=4), by="s0"), draw(1, of(calls=3)))
    decided = renewing.when(draw(2, of(calls=1), of(calls=3), asked=late), late)
    assert kinds(decided) == [BudgetRenewed, Allotted]
    assert (decided[0].since, decided[0].until) == (NOON + timedelta(days=2), NOON + timedelta(days=3))
    assert (renewing.pool.spent, renewing.pool.reserved) == (of(calls=3), of(calls=5))


def test_a_change_keeps_the_window_and_what_was_spent_in_it() -> None:
    owner = Owner().given(set_to(calls=10, seconds=DAY), draw(1, of(calls=4)), draw(2, NOTHING, of(calls=4)))
    [changed] = owner.when(set_to(calls=20, seconds=2 * DAY), NOON + timedelta(hours=1))
    assert changed == BudgetSet(limits=Allowance(calls=20, seconds=2 * DAY), since=NOON, until=NOON + timedelta(days=2))
    assert owner.pool.spent == of(calls=4)
    assert owner.when(set_to(calls=20, seconds=2 * DAY)).code == "unchanged"
    [anew] = owner.when(set_to(calls=20, seconds=2 * DAY), NOON + timedelta(days=9))
    assert anew.since == NOON + timedelta(days=9)
    assert owner.pool.spent == NOTHING


def test_a_limit_below_what_is_taken_already_denies_what_comes_and_takes_what_is_given_back() -> None:
    owner = Owner().given(set_to(calls=10), draw(1, of(calls=8)), set_to(calls=5))
    assert owner.when(draw(1, of(calls=1), by="s2"))[0].code == "calls"
    assert kinds(owner.when(draw(2, NOTHING, of(calls=8)))) == [Allotted]
    assert kinds(owner.when(draw(2, of(tokens=5), by="s2"))) == [Allotted], "another dimension has no limit"


def test_who_holds_nothing_is_forgotten_in_time_and_an_old_draw_of_theirs_is_not_counted_again() -> None:
    owner = Owner().given(set_to(calls=10), draw(1, of(calls=2)), draw(2, NOTHING, of(calls=2)))
    later = NOON
    for number in range(1, FORGET_SECONDS // PAUSE_SECONDS + 1):
        later += timedelta(hours=1)
        assert "s1" in owner.pool.settled, "while nothing happens nobody is forgotten"
        owner.when(draw(number, of(calls=1), by="s2", asked=later), later)
    assert "s1" not in owner.pool.settled
    for old in (draw(1, of(calls=2)), draw(2, NOTHING, of(calls=2))):
        [answer] = owner.when(old, later)
        assert (answer.code, answer.used) == ("stale", NOTHING)
    assert (owner.pool.spent, owner.pool.reserved) == (of(calls=2), of(calls=1))
    assert kinds(owner.when(draw(3, of(calls=1), asked=later), later)) == [Allotted], "a new one is answered as ever"


def test_more_sessions_than_fit_into_a_snapshot_have_to_ask_again() -> None:
    owner = Owner().given(*[draw(1, of(tokens=10**12, cost_micros=10**15), by=f"{'s' * 31}{n:05}") for n in range(MAX_SESSIONS)])
    assert owner.when(draw(1, of(calls=1), by="one more")).code == "full"
    assert kinds(owner.when(draw(2, NOTHING, by=f"{'s' * 31}00007"))) == [Allotted], "who is known goes on"
    assert len(msgspec.msgpack.encode(owner.state)) < 900_000


def test_a_budget_of_another_tenant_is_not_touched() -> None:
    assert Owner().when(set_to(calls=1), tenant="other").code == "misnamed"


def test_an_event_that_cannot_follow_is_an_error() -> None:
    with pytest.raises(ValueError, match="BudgetRenewed cannot follow Unset"):
        Owner().fold(BudgetRenewed(since=NOON, until=NOON), NOON)


class World:
    """A budget and its sessions, and what is under way between them: it may be late, lost, or come twice."""

    def __init__(self, limits: SetBudget, sessions: int) -> None:
        self.owner = Owner().given(limits)
        self.now = NOON
        self.mail: list[tuple[str, Any]] = []
        self.stories = {f"s{number}": Story().given(_start()) for number in range(sessions)}
        self.used = dict.fromkeys(self.stories, NOTHING)
        """What each has really used; at its end with what was in flight."""

    def act(self, kind: str, number: int) -> None:
        name = f"s{number % len(self.stories)}"
        story = self.stories[name]
        match kind:
            case "ask":
                self.ask(name, session.outstanding(story.state))
            case "deliver" | "twice" | "lose" if self.mail:
                place = number % len(self.mail)
                target, body = self.mail[place] if kind == "twice" else self.mail.pop(place)
                if kind != "lose":
                    self.deliver(target, body)
            case "wait":
                self.now += timedelta(seconds=number)
            case "due":
                self.pass_deadline(name)
            case "post":
                self.tell(name, PostMessage(input="x"))
            case "work":
                self.work(name, number)
            case "cancel":
                self.tell(name, CancelSession())

    def ask(self, name: str, effect: Any) -> None:
        """What a session's owner does while a draw is open."""
        if isinstance(effect, Ask):
            body = draw(effect.draw, effect.need, effect.used, name, effect.asked, wish=effect.wish)
            self.mail.append(("budget", body))

    def pass_deadline(self, name: str) -> None:
        state = self.stories[name].state
        if (due := session.due(state)) and due <= self.now:
            self.tell(name, session.when_due(state, name)[1])

    def work(self, name: str, number: int) -> None:
        """An effect begins or comes to its end, within its upper bound."""
        state = self.stories[name].state
        if isinstance(state, Thinking):
            usage = Usage(input_tokens=number, output_tokens=min(number, state.max_tokens or 0))
            asked = tuple(wish("add", str(each)) for each in range(number % 3))
            self.tell(name, RecordReply(request=state.request, attempt="a", content="", finish_reason="stop", usage=usage, calls=asked))
        for call in calls(state)[:1]:
            match call:
                case Queued(call=id, attempt=attempt):
                    self.tell(name, begin(id, attempt))
                case Running(call=id, attempt=attempt):
                    self.tell(name, result(id, attempt, usage=Usage(input_tokens=0, output_tokens=0, cost_micros=5)))

    def deliver(self, target: str, body: Any) -> None:
        if target != "budget":
            self.tell(target, body)
            return
        decided = self.owner.when(body, self.now)
        for event in [] if isinstance(decided, Refusal) else decided:
            if isinstance(event, Allotted):
                self.mail.append((event.session, RecordAllotment(draw=event.draw, granted=event.granted)))
            if isinstance(event, AllotmentDenied):
                self.mail.append((event.session, RecordAllotment(draw=event.draw, code=event.code, reason=event.reason)))

    def tell(self, name: str, body: Any) -> None:
        story = self.stories[name]
        before = story.state
        story.when(body, self.now)
        if isinstance(story.state, Ended):
            if isinstance(before, Idle | Thinking | Acting | Drawing):
                self.used[name] = plus(before.talk.used, _in_flight(before))
        elif isinstance(story.state, Idle | Thinking | Acting | Drawing):
            self.used[name] = story.state.talk.used

    def settle(self) -> None:
        """Everybody ends, and everything under way arrives."""
        for name in self.stories:
            self.act("cancel", int(name[1:]))
        for _ in range(8):
            self.now += timedelta(seconds=1)
            for name in self.stories:
                self.act("due", int(name[1:]))
                self.act("ask", int(name[1:]))
            while self.mail:
                self.act("deliver", 0)

    def total(self) -> Amounts:
        return _sum(iter(self.used.values()))


def _start() -> StartSession:
    add = tool("add", attempts=1)
    return StartSession(model="m", metadata={}, reply_seconds=30, idle_seconds=3600, tools=(add,), max_tokens=100, governed=True)


def _in_flight(state: Any) -> Amounts:
    if isinstance(state, Thinking):
        return amounts(reserved(state.talk, state.max_tokens))
    return Amounts(cost_micros=5 * sum(isinstance(call, Running) for call in calls(state)))


WEIGHTS = {"post": 4, "ask": 8, "deliver": 10, "twice": 3, "lose": 1, "work": 12, "wait": 3, "due": 6, "cancel": 1}


def _steps(seed: int, count: int = 150) -> Iterator[tuple[str, int]]:
    """What happens, at random: mostly what brings a session on."""
    chance = random.Random(seed)
    for kind in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count):
        yield kind, chance.randrange(60)


limits = st.builds(
    set_to,
    tokens=st.none() | st.integers(300, 4_000),
    cost_micros=st.none() | st.integers(1, 100),
    calls=st.none() | st.integers(0, 6),
    turns=st.none() | st.integers(1, 6),
)


@settings(max_examples=200)
@given(limits, st.integers(1, 4), st.integers(0, 2**32))
def test_whatever_is_late_lost_or_repeated_no_sessions_together_use_more_than_the_budget_and_all_of_it_comes_back(
    limits: SetBudget, sessions: int, seed: int
) -> None:
    world = World(limits, sessions)
    for kind, number in _steps(seed):
        world.act(kind, number)
        pool = world.owner.pool
        assert pool.reserved == _sum(holder.granted for holder in pool.held.values())
        for taken in (plus(pool.spent, pool.reserved), world.total()):
            assert fits(taken, _ceiling(limits)), f"{taken} within {limits}"
        assert all(session.due(story.state) is not None for story in world.stories.values() if not isinstance(story.state, Ended))
    world.settle()
    assert (world.owner.pool.held, world.owner.pool.reserved) == ({}, NOTHING)
    assert world.owner.pool.spent == world.total(), "each use is counted exactly once"
    assert all(
        story.state == Ended("cancelled", story.state.unknown, guessed=story.state.guessed)
        for story in world.stories.values()
        if isinstance(story.state, Ended)
    )


@given(st.integers(0, 2**32))
def test_a_budget_is_the_same_when_it_was_kept_in_a_snapshot(seed: int) -> None:
    world = World(set_to(calls=4, tokens=2_000), 2)
    for kind, number in _steps(seed):
        world.act(kind, number)
    state = world.owner.state
    assert isinstance(state, Bounded)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State) == state


def _ceiling(limits: SetBudget) -> Amounts:
    bounds = {name: getattr(limits.limits, name) for name in DIMENSIONS}
    return Amounts(**{name: 10**18 if bound is None else bound for name, bound in bounds.items()})


def _sum(each: Iterator[Amounts]) -> Amounts:
    total = NOTHING
    for one in each:
        total = plus(total, one)
    return total
