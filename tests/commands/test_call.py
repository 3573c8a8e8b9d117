"""Tool calls in the session's decider: the ledger, approvals, budgets, cancel."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from commands import call, session, talk
from commands.call import Queued, Running
from commands.decision import Refusal
from commands.situation import Acting, Ended, Idle, Thinking, Waiting, calls, unknown_of
from commands.talk import Unknown
from schemas.chain import digest
from schemas.types.common import Usage
from schemas.types.session import (
    ApproveCall,
    AskedCall,
    BeginCall,
    CancelSession,
    DenyCall,
    Limits,
    PassDeadline,
    PostMessage,
    Price,
    RecordFailure,
    RecordReply,
    RecordResult,
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionClosed,
    SessionStarted,
    SettleCall,
    StartSession,
    Tool,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
    ToolCallSettled,
    ToolCallStarted,
    TurnStopped,
)
from tests.commands.test_session import NOON, Story, kinds

LATER = NOON + timedelta(hours=2)


def tool(name: str, **changes: Any) -> Tool:
    plain = Tool(name=name, version=1, repeat_safe=True, timeout_seconds=10, attempts=3, cost_micros=5, approval="never", tokens=20)
    return replace(plain, **changes)


ADD, PAY = tool("add"), tool("pay", repeat_safe=False, attempts=1)
ASK_FIRST = tool("wipe", approval="always")


def start(*tools: Tool, **terms: Any) -> StartSession:
    plain: dict[str, Any] = {"model": "m", "input": "hello", "metadata": {}, "reply_seconds": 30, "idle_seconds": 3600}
    return StartSession(**{**plain, "tools": tools or (ADD, PAY, ASK_FIRST), **terms})


def wish(name: str, arguments: str = "{}", **about: Any) -> AskedCall:
    return AskedCall(model_id="m0", tool=name, arguments=arguments, digest=digest(arguments.encode()), **about)


def reply(request: int, *wishes: AskedCall, **about: Any) -> RecordReply:
    return RecordReply(request=request, attempt="a", content="", finish_reason="tool_calls", calls=wishes, **about)


def result(id: str, attempt: int = 1, **about: Any) -> RecordResult:
    plain: dict[str, Any] = {"call": id, "attempt": attempt, "outcome": "ok", "content": "42", "digest": digest(b"42"), "bytes": 2}
    return RecordResult(**{**plain, **about})


def begin(id: str, attempt: int = 1, executor: str = "e1") -> BeginCall:
    return BeginCall(call=id, attempt=attempt, executor=executor)


def open_calls(story: Story) -> list[str]:
    return [each.call for each in calls(story.state)]


def asking(*wishes: AskedCall, **terms: Any) -> Story:
    """A session whose model asked for these calls in its first reply."""
    return Story().given(start(**terms), reply(3, *wishes))


def test_a_reply_with_calls_waits_for_all_results_in_any_order_and_then_asks_the_model_again() -> None:
    story = Story().given(start())
    asked = story.when(reply(3, wish("add", '{"a":1}'), wish("add", '{"a":2}')))
    assert kinds(asked) == [ReplyRecorded, ToolCallRequested, ToolCallRequested]
    first, second = open_calls(story)
    assert first != second
    story.given(begin(first), begin(second))
    assert kinds(story.when(result(second))) == [ToolCallFinished]
    assert isinstance(story.state, Acting)
    assert kinds(story.when(result(first))) == [ToolCallFinished, ReplyRequested]
    assert isinstance(story.state, Thinking)


def test_an_attempt_belongs_to_the_one_executor_that_began_it() -> None:
    story = asking(wish("pay"))
    [id] = open_calls(story)
    [started] = story.when(begin(id, executor="e1"))
    assert (started.attempt, started.executor) == (1, "e1")
    assert story.when(begin(id, executor="e2")).code == "taken"
    assert story.when(begin(id, attempt=2, executor="e2")).code == "taken", "pay may not be repeated"


def test_a_lost_executors_call_is_begun_again_where_that_is_safe_and_its_late_result_is_refused() -> None:
    story = asking(wish("add"))
    [id] = open_calls(story)
    story.given(begin(id, executor="e1"))
    assert kinds(story.when(begin(id, attempt=2, executor="e2"))) == [ToolCallStarted]
    assert story.when(result(id, attempt=1)).code == "late"
    assert kinds(story.when(result(id, attempt=2))) == [ToolCallFinished, ReplyRequested]


def test_a_call_that_may_not_be_repeated_ends_unknown_at_its_deadline_and_a_late_result_settles_it() -> None:
    story = asking(wish("pay"))
    [id] = open_calls(story)
    story.given(begin(id))
    assert story.when(PassDeadline(call=id)).code == "not_due"
    [finished, again] = story.when(PassDeadline(call=id), LATER)
    assert (finished.outcome, type(again)) == ("unknown", ReplyRequested)
    assert story.when(result(id, attempt=2), LATER).code == "late", "only the attempt that claimed it"
    [settled] = story.when(result(id), LATER)
    assert isinstance(settled, ToolCallSettled)
    assert story.when(result(id), LATER).code == "late"
    assert isinstance(story.state, Thinking), "what the session does is not disturbed"


def test_an_attempt_that_does_not_know_whether_it_had_its_effect_ends_unknown_and_is_charged_once() -> None:
    # given
    story = asking(wish("pay"))
    [id] = open_calls(story)
    story.given(begin(id))
    cost = Usage(input_tokens=0, output_tokens=0, cost_micros=PAY.cost_micros)
    # when its executor says that the way to the tool broke
    [finished, _] = story.when(result(id, outcome="unknown", content="the connection broke", usage=cost))
    # then the state says whom to ask
    assert finished.outcome == "unknown"
    assert unknown_of(story.state) == (Unknown(id, 1, "pay", PAY.version, NOON),)
    # and only who knows settles it
    assert story.when(result(id, outcome="unknown")).code == "late"
    [settled] = story.when(result(id, usage=cost, artifact="t/ab/abcd", bytes=70_000))
    assert (settled.outcome, settled.artifact, settled.bytes) == ("ok", "t/ab/abcd", 70_000)
    assert isinstance(story.state, Thinking)
    assert story.state.talk.used.cost_micros == PAY.cost_micros


COST = Usage(input_tokens=0, output_tokens=0, cost_micros=PAY.cost_micros)


@pytest.mark.parametrize("cancelled", [False, True], ids=["goes on", "ended"])
@pytest.mark.parametrize("name", ["pay", "add"], ids=["never repeated", "begun again"])
def test_an_attempt_that_was_charged_at_its_deadline_sends_no_bill_when_it_comes_late(name: str, cancelled: bool) -> None:
    # given an attempt that says nothing until its time is over, and is charged then
    story = asking(wish(name), wish("add", "[]"))
    id = open_calls(story)[0]
    story.given(begin(id))
    [passed, *_] = story.when(PassDeadline(call=id), LATER)
    assert passed.usage == COST
    # and a person who says how it ended, where nobody knew
    if name == "pay":
        story.given(SettleCall(call=id, outcome="ok", content="paid", digest=digest(b"paid")))
    if cancelled:
        story.given(CancelSession())
    # then its own word is too late, and no second bill
    late = story.when(result(id, usage=COST), LATER)
    assert (late.code, late.charged) == ("late", True)
    # while an attempt that nobody charged for does send one
    late = story.when(result(id, attempt=2, usage=COST), LATER)
    assert (late.code, late.charged) == ("late", False)


def test_a_person_settles_an_unknown_call_even_after_the_end() -> None:
    story = asking(wish("pay"))
    [id] = open_calls(story)
    story.given(begin(id))
    story.when(PassDeadline(call=id), LATER)
    story.given(CancelSession())
    settle = SettleCall(call=id, outcome="ok", content="paid", digest=digest(b"paid"), note="seen in the ledger of the bank")
    assert kinds(story.when(settle)) == [ToolCallSettled]
    assert isinstance(story.state, Ended)
    assert story.when(settle).code == "no_such_call"


def test_a_safe_call_whose_attempt_says_nothing_waits_for_another_until_its_attempts_are_used() -> None:
    story = asking(wish("add"))
    [id] = open_calls(story)
    story.given(begin(id, 1))
    assert kinds(story.when(PassDeadline(call=id), NOON + timedelta(seconds=20))) == [ToolCallReturned]
    story.given(begin(id, 2))
    assert kinds(story.when(result(id, 2, outcome="error", retry=True))) == [ToolCallReturned]
    story.given(begin(id, 3))
    [finished, _] = story.when(result(id, 3, outcome="error", retry=True))
    assert (finished.outcome, finished.attempt) == ("error", 3)


def test_a_call_that_nobody_begins_does_not_hang() -> None:
    story = asking(wish("add"))
    [finished, again] = story.when(PassDeadline(call=open_calls(story)[0]), LATER)
    assert (finished.outcome, finished.attempt, type(again)) == ("deadline", 0, ReplyRequested)


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [(wish("nonesuch"), "refused"), (wish("add", problem="a is missing"), "invalid")],
)
def test_a_call_that_cannot_be_run_is_answered_by_name_and_the_model_goes_on(asked: AskedCall, outcome: str) -> None:
    story = Story().given(start())
    decided = story.when(reply(3, asked))
    assert kinds(decided) == [ReplyRecorded, ToolCallRequested, ToolCallFinished, ReplyRequested]
    assert decided[2].outcome == outcome


def test_more_calls_than_a_reply_may_ask_for_are_refused_one_by_one() -> None:
    story = Story().given(start())
    story.given(reply(3, *[wish("add", str(number)) for number in range(call.MAX_CALLS + 3)]))
    assert len(open_calls(story)) == call.MAX_CALLS


def test_an_approval_is_for_the_arguments_that_were_shown() -> None:
    story = asking(wish("wipe", '{"disk":1}'))
    assert isinstance(story.state, Waiting)
    [id] = open_calls(story)
    assert story.when(begin(id)).code == "taken"
    assert story.when(ApproveCall(call=id, digest=digest(b"other"))).code == "changed"
    other = digest(b'{"disk":2}')
    approve = ApproveCall(call=id, digest=digest(b'{"disk":1}'), note="fine", arguments='{"disk":2}', arguments_digest=other)
    [approved] = story.when(approve)
    assert isinstance(approved, ToolCallApproved)
    assert approved.digest == other
    assert isinstance(story.state, Acting)
    assert story.when(approve).code == "not_waiting"
    assert kinds(story.when(begin(id))) == [ToolCallStarted]


def test_a_denial_and_a_passed_deadline_both_deny() -> None:
    story = asking(wish("wipe"))
    [denied, _] = story.when(DenyCall(call=open_calls(story)[0], note="no"))
    assert denied.outcome == "denied"
    story = asking(wish("wipe"))
    [denied, _] = story.when(PassDeadline(call=open_calls(story)[0]), LATER)
    assert denied.outcome == "denied"


def test_a_condition_that_holds_asks_for_an_approval() -> None:
    sometimes = tool("send", approval="when")
    assert isinstance(asking(wish("send"), tools=(sometimes,)).state, Acting)
    assert isinstance(asking(wish("send", needs_approval=True), tools=(sometimes,)).state, Waiting)


def test_after_a_cancel_nothing_begins_and_late_results_are_refused() -> None:
    story = asking(wish("add"), wish("pay"))
    running, queued = open_calls(story)
    story.given(begin(running), CancelSession())
    assert story.when(begin(queued)).code == "late"
    assert story.when(result(running)).code == "late"


def test_a_loop_of_model_and_tool_ends() -> None:
    story = Story().given(start())
    for step in range(talk.MAX_STEPS):
        assert isinstance(story.state, Thinking)
        story.given(reply(story.state.request, wish("add", str(step))))
        [id] = open_calls(story)
        story.given(begin(id))
        last = story.when(result(id))
    assert isinstance(last[-1], TurnStopped)
    assert last[-1].code == "steps"
    assert kinds(story.when(PostMessage(input="go on")))[-1] is ReplyRequested


def test_the_same_call_again_and_again_is_noticed() -> None:
    story = Story().given(start())
    for _ in range(talk.MAX_REPEATS):
        assert isinstance(story.state, Thinking)
        story.given(reply(story.state.request, wish("add", "same")))
        [id] = open_calls(story)
        story.given(begin(id), result(id))
    assert isinstance(story.state, Thinking)
    decided = story.when(reply(story.state.request, wish("add", "same")))
    assert (decided[2].outcome, decided[-1].code) == ("repeated", "repeated")


def test_calls_beyond_the_budget_are_refused_and_end_the_turn_once_the_others_are_in() -> None:
    story = asking(wish("add", "1"), wish("add", "2"), wish("add", "3"), limits=Limits(calls=2))
    assert len(open_calls(story)) == 2
    for id in open_calls(story):
        story.given(begin(id))
        last = story.when(result(id))
    assert isinstance(last[-1], TurnStopped)
    assert last[-1].code == "budget"
    assert isinstance(story.state, Idle)


def test_money_is_reserved_before_a_call_and_settled_by_what_it_cost() -> None:
    dear = tool("dear", cost_micros=40, attempts=2)
    story = asking(wish("dear", "1"), wish("dear", "2"), tools=(dear,), limits=Limits(cost_micros=100))
    [id] = open_calls(story)
    story.given(begin(id))
    story.when(result(id, usage=Usage(input_tokens=0, output_tokens=0, cost_micros=10)))
    assert isinstance(story.state, Idle)
    assert story.state.talk.used.cost_micros == 10


@given(tokens=st.integers(0, 2_000), micros=st.integers(0, 3_000), most=st.none() | st.integers(1, 1_500), said=st.text(max_size=200))
def test_a_reply_that_would_not_fit_is_made_shorter_down_to_a_floor(tokens: int, micros: int, most: int | None, said: str) -> None:
    # given
    price = Price(input_micros=1_000_000, output_micros=3_000_000)
    limits = Limits(tokens=tokens, cost_micros=micros)
    # when
    events = Story().when(start(limits=limits, max_tokens=most, price=price, input=said))
    # then it may take as much as fits, and no less than is worth it
    prompt = sum(each.tokens for each in (ADD, PAY, ASK_FIRST)) + talk.tokens(said)
    room = min(tokens - prompt, (micros - prompt) // 3, most or 10_000)
    if room < min(talk.FLOOR_TOKENS, most or talk.FLOOR_TOKENS):
        assert isinstance(events, Refusal)
        assert events.code == "budget"
    else:
        assert events[-1].max_tokens == room


def test_a_reply_may_take_what_is_left_of_the_tokens() -> None:
    story = Story()
    started = story.when(start(ADD, limits=Limits(tokens=500), max_tokens=1_000))
    room = started[-1].max_tokens
    assert isinstance(started[0], SessionStarted)
    assert 0 < room < 500
    usage = Usage(input_tokens=100, output_tokens=room)
    story.given(RecordReply(request=3, attempt="a", content="x", finish_reason="length", usage=usage))
    assert story.when(PostMessage(input="more")).code == "budget"


def test_a_reply_whose_cost_nobody_tells_is_charged_at_its_upper_bound() -> None:
    price = Price(input_micros=1_000_000, output_micros=2_000_000)
    story = Story().given(start(ADD, limits=Limits(cost_micros=10_000), max_tokens=50, price=price))
    assert isinstance(story.state, Thinking)
    most = story.state.talk.context + 2 * 50
    [recorded] = story.when(RecordReply(request=3, attempt="a", content="x", finish_reason="stop"))
    assert recorded.usage.cost_micros == most
    story.given(PostMessage(input="again"))
    assert isinstance(story.state, Thinking)
    [failed] = story.when(RecordFailure(request=story.state.request, attempt="", code="deadline", reason="late"))
    assert isinstance(failed, ReplyFailed)
    assert failed.usage is not None


def test_wall_time_ends_at_its_limit() -> None:
    story = Story().given(start(limits=Limits(seconds=60)))
    story.when(RecordFailure(request=3, attempt="", code="deadline", reason="late"), NOON + timedelta(seconds=60))
    assert story.when(PostMessage(input="x"), NOON + timedelta(seconds=61)).code == "budget"


def test_a_session_for_one_call_ends_with_it() -> None:
    story = Story()
    assert kinds(story.when(start(input=None, call=wish("add")))) == [SessionStarted, ToolCallRequested]
    [id] = open_calls(story)
    story.given(begin(id))
    assert kinds(story.when(result(id))) == [ToolCallFinished, SessionClosed]
    invalid = Story().when(start(input=None, call=wish("add", problem="wrong")))
    assert kinds(invalid) == [SessionStarted, ToolCallRequested, ToolCallFinished, SessionClosed]


KINDS = ["reply", "wish", "begin", "take", "result", "again", "deny", "approve", "pass", "settle", "post"]
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 40)), max_size=40)


def command(story: Story, step: str, number: int) -> Any:
    """What might come next, whether it fits or not."""
    state = story.state
    request = state.request if isinstance(state, Thinking) else 3
    ids = open_calls(story) or ["none"]
    id = ids[number % len(ids)]
    attempt = next((each.attempt for each in calls(state) if each.call == id and isinstance(each, Queued | Running)), 1)
    wishes = [wish(("add", "pay", "wipe", "none")[each % 4], str(each)) for each in range(number, number + 2)]
    return {
        "reply": reply(request), "wish": reply(request, *wishes), "begin": begin(id, attempt), "take": begin(id, attempt + 1, "e2"),
        "result": result(id, attempt), "again": result(id, attempt, retry=True), "deny": DenyCall(call=id),
        "approve": ApproveCall(call=id, digest=digest(b"{}")), "pass": PassDeadline(call=id),
        "settle": SettleCall(call=id, outcome="ok", content="x", digest=digest(b"x")), "post": PostMessage(input="x"),
    }[step]  # fmt: skip


@given(steps)
def test_whatever_happens_a_session_waits_for_something_that_ends_and_never_runs_a_call_twice_that_may_not(history: list[Any]) -> None:
    limits = Limits(calls=6, cost_micros=60)
    story, begun = Story().given(start(limits=limits)), list[str]()
    now = NOON
    for step, number, seconds in history:
        now += timedelta(seconds=seconds)
        decided = story.when(command(story, step, number), now)
        if not isinstance(decided, Refusal):
            begun += [body.call for body in decided if isinstance(body, ToolCallStarted)]
        if isinstance(story.state, Acting | Waiting):
            assert story.state.calls, "what acts has an open call"
        assert session.due(story.state) is not None, "everything has a deadline"
        pays = {each.call for each in calls(story.state) if each.tool == "pay"}
        assert all(begun.count(id) <= 1 for id in pays)
        if isinstance(story.state, Idle | Thinking | Acting | Waiting):
            assert story.state.talk.used.calls <= 6
            assert story.state.talk.used.cost_micros <= 60
