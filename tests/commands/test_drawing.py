"""A session that draws from its tenant's budget: its own side of it."""

from datetime import datetime, timedelta
from typing import Any

from commands import session
from commands.allotment import ANSWER_SECONDS, RETURN_SECONDS
from commands.amounts import NOTHING, fits
from commands.situation import Acting, Drawing, Ended, Idle, Thinking, Waiting, calls, calls_at_all
from schemas.types.common import Amounts, Usage
from schemas.types.session import (
    AllotmentAsked,
    AllotmentReceived,
    CancelSession,
    Limits,
    MessagePosted,
    PassAllotment,
    PostMessage,
    RecordAllotment,
    ReplyRecorded,
    ReplyRequested,
    SessionClosed,
    SessionStarted,
    ToolCallFinished,
    ToolCallRequested,
    TurnStopped,
)
from tests.commands import test_call as plain
from tests.commands.test_call import begin, reply, result, wish
from tests.commands.test_session import NOON, Story, kinds

PLENTY = Amounts(tokens=10**6, cost_micros=10**6, calls=100, turns=100)


def start(**terms: Any) -> Any:
    return plain.start(**{"max_tokens": 100, "governed": True, **terms})


def granted(draw: int, amounts: Amounts = PLENTY) -> RecordAllotment:
    return RecordAllotment(draw=draw, granted=amounts)


def denied(draw: int, code: str = "calls") -> RecordAllotment:
    return RecordAllotment(draw=draw, code=code, reason="The tenant's budget allows for no more.")


def after(seconds: float, since: datetime = NOON) -> datetime:
    return since + timedelta(seconds=seconds)


def thinking(amounts: Amounts = PLENTY, **terms: Any) -> Story:
    """A session whose first draw was granted, and whose model is at work."""
    return Story().given(start(**terms), granted(1, amounts))


def test_a_turn_draws_for_its_model_call_at_its_upper_bound_and_goes_on_with_the_answer() -> None:
    story = Story()
    decided = story.when(start())
    assert kinds(decided) == [SessionStarted, MessagePosted, AllotmentAsked]
    asked = decided[-1]
    assert (asked.draw, asked.used, asked.need.turns, asked.deadline) == (1, NOTHING, 1, after(ANSWER_SECONDS))
    assert asked.need.tokens > 100
    assert fits(asked.need, asked.wish)
    assert isinstance(story.state, Drawing)
    assert kinds(story.when(granted(1, asked.need))) == [AllotmentReceived, ReplyRequested]
    assert isinstance(story.state, Thinking)


def test_who_is_not_governed_never_draws() -> None:
    assert kinds(Story().when(start(governed=False))) == [SessionStarted, MessagePosted, ReplyRequested]


def test_while_the_budget_is_silent_the_session_is_busy_and_begins_nothing() -> None:
    story = Story().given(start())
    assert story.when(PostMessage(input="more")).code == "busy"
    assert story.when(reply(3)).code == "late"


def test_a_denied_turn_stops_with_the_budgets_reason_and_does_not_count() -> None:
    story = Story().given(start(limits=Limits(turns=1)))
    decided = story.when(denied(1, "tokens"))
    assert kinds(decided) == [AllotmentReceived, TurnStopped]
    assert (decided[-1].code, decided[-1].reason) == ("budget", "The tenant's budget allows for no more.")
    assert isinstance(story.state, Idle)
    assert story.state.talk.used.turns == 0
    assert kinds(story.when(PostMessage(input="again"))) == [MessagePosted, AllotmentAsked], "its own one turn is not used up"


def test_the_calls_of_a_reply_wait_for_an_allotment_that_covers_them_all() -> None:
    story = thinking(Amounts(tokens=10_000, turns=1))
    decided = story.when(reply(5, wish("add"), wish("wipe")))
    assert kinds(decided) == [ReplyRecorded, ToolCallRequested, ToolCallRequested, AllotmentAsked]
    assert (decided[-1].need.calls, decided[-1].need.cost_micros) == (2, 30)
    first, second = (call.call for call in calls_at_all(story.state))
    assert calls(story.state) == (), "no executor sees them"
    assert story.when(begin(first)).code == "late"
    [received] = story.when(granted(2))
    assert received.approval, "a person has to approve the second one"
    assert isinstance(story.state, Waiting)
    story.given(begin(first))
    assert second in [call.call for call in calls(story.state)]


def test_denied_calls_are_answered_by_name_and_the_turn_stops() -> None:
    story = thinking(Amounts(tokens=10_000, turns=1))
    story.given(reply(5, wish("add"), wish("pay")))
    decided = story.when(denied(2))
    assert kinds(decided) == [AllotmentReceived, ToolCallFinished, ToolCallFinished, TurnStopped]
    assert {body.outcome for body in decided[1:3]} == {"budget"}
    assert decided[-1].code == "budget"
    assert isinstance(story.state, Idle)


def test_a_session_for_one_call_ends_with_a_denial_too() -> None:
    story = Story()
    assert kinds(story.when(start(input=None, call=wish("add")))) == [SessionStarted, ToolCallRequested, AllotmentAsked]
    assert kinds(story.when(denied(1))) == [AllotmentReceived, ToolCallFinished, SessionClosed]


def test_what_was_granted_serves_until_it_is_used_up_and_the_next_draw_says_what_that_was() -> None:
    story = thinking(Amounts(tokens=10_000, calls=1, turns=1, cost_micros=15))
    story.given(reply(5, wish("add"), usage=Usage(input_tokens=60, output_tokens=40)))
    assert isinstance(story.state, Acting), "the call was covered"
    [call] = calls(story.state)
    story.given(begin(call.call), result(call.call, usage=Usage(input_tokens=0, output_tokens=0, cost_micros=5)))
    assert isinstance(story.state, Thinking), "and so is the next model call"
    story.given(reply(story.state.request, usage=Usage(input_tokens=100, output_tokens=1)))
    decided = story.when(PostMessage(input="more"))
    assert kinds(decided) == [MessagePosted, AllotmentAsked]
    assert decided[-1].used == Amounts(tokens=201, cost_micros=5, calls=1, turns=1)


def test_a_silent_budget_ends_the_turn_and_its_later_answer_is_taken_and_given_back() -> None:
    story = Story().given(start())
    assert story.when(PassAllotment(), after(1)).code == "not_due"
    [stopped] = story.when(PassAllotment(), after(ANSWER_SECONDS))
    assert (type(stopped), stopped.code) == (TurnStopped, "unavailable")
    assert session.outstanding(story.state) is not None, "it is asked again until it answers"
    late = after(500)
    assert kinds(story.when(granted(1), late)) == [AllotmentReceived]
    assert isinstance(story.state, Idle)
    assert session.due(story.state) == after(RETURN_SECONDS, late)
    [back] = story.when(PassAllotment(), after(RETURN_SECONDS, late))
    assert (back.draw, back.need, back.deadline) == (2, NOTHING, None)


def test_calls_that_waited_for_a_silent_budget_are_answered_too() -> None:
    story = thinking(Amounts(tokens=10_000, turns=1)).given(reply(5, wish("add")))
    decided = story.when(PassAllotment(), after(ANSWER_SECONDS))
    assert kinds(decided) == [ToolCallFinished, TurnStopped]


def test_a_message_while_a_draw_is_open_waits_for_that_ones_answer_before_it_draws_for_itself() -> None:
    story = thinking().given(reply(5))
    [back] = story.when(PassAllotment(), after(60))
    decided = story.when(PostMessage(input="more"), after(61))
    assert (decided[-1].draw, decided[-1].need) == (back.draw, NOTHING)
    again = story.when(granted(2, NOTHING), after(62))
    assert kinds(again) == [AllotmentReceived, AllotmentAsked]
    assert (again[-1].draw, again[-1].used) == (3, NOTHING)
    assert kinds(story.when(granted(3), after(63))) == [AllotmentReceived, ReplyRequested]


def test_an_idle_session_keeps_what_it_holds_for_the_next_message_and_then_gives_it_back_once() -> None:
    story = thinking().given(reply(5))
    assert session.due(story.state) == after(RETURN_SECONDS)
    assert kinds(story.when(PostMessage(input="soon"), after(5))) == [MessagePosted, ReplyRequested]
    assert isinstance(story.state, Thinking)
    story.when(reply(story.state.request), after(6))
    id, command = session.when_due(story.state, "s")
    assert kinds(story.when(command, after(16))) == [AllotmentAsked]
    assert story.when(command, after(17)).code == "not_due"
    expires = session.due(story.state)
    story.when(granted(2, NOTHING), after(18))
    assert session.due(story.state) == expires == after(6 + 3600), "giving back does not prolong its life"
    assert session.when_due(story.state, "s")[0] != id


def test_an_ended_session_gives_back_at_once_and_charges_what_was_in_flight_at_its_upper_bound() -> None:
    story = thinking()
    story.given(CancelSession())
    assert isinstance(story.state, Ended)
    assert session.due(story.state) == NOON
    [back] = story.when(session.when_due(story.state, "s")[1])
    assert back.need == NOTHING
    assert back.used.tokens > 100, "the model call might have taken all of it"
    assert kinds(story.when(granted(back.draw, NOTHING))) == [AllotmentReceived]
    assert story.state == Ended("cancelled")
    assert story.when(granted(back.draw, NOTHING)).code == "late"


def test_an_answer_that_comes_after_the_end_is_given_back() -> None:
    story = Story().given(start(), CancelSession())
    assert session.due(story.state) is None
    story.given(granted(1))
    [back] = story.when(PassAllotment())
    assert (back.draw, back.used, back.need) == (2, NOTHING, NOTHING)


def test_a_stale_answer_was_not_counted_so_the_next_draw_says_it_again() -> None:
    story = thinking().given(reply(5, usage=Usage(input_tokens=7, output_tokens=1)))
    [first] = story.when(PassAllotment(), after(60))
    story.when(denied(first.draw, "stale"), after(61))
    [second] = story.when(PassAllotment(), after(90))
    assert (second.draw, second.used) == (first.draw + 1, first.used)
    assert (second.used.tokens, second.used.turns) == (8, 1)


def test_a_turn_that_a_stale_answer_stops_says_that_the_budget_was_not_to_be_had() -> None:
    decided = Story().given(start()).when(denied(1, "stale"))
    assert decided[-1].code == "unavailable"


def test_an_answer_to_another_draw_is_late() -> None:
    story = Story().given(start())
    assert story.when(granted(2)).code == "late"
    story.given(granted(1))
    assert story.when(granted(1)).code == "late"


def test_wall_time_that_ends_while_the_budget_is_asked_ends_the_turn() -> None:
    story = Story()
    asked = story.when(start(limits=Limits(seconds=5)))[-1]
    assert asked.deadline == after(5)
    assert story.when(granted(1), after(6))[-1].code == "budget"


def test_a_late_result_of_an_unknown_call_is_not_charged_twice() -> None:
    story = thinking().given(reply(5, wish("pay")))
    [call] = calls(story.state)
    story.given(begin(call.call))
    story.when(session.when_due(story.state, "s")[1], after(1_000))
    [settled] = story.when(result(call.call, usage=Usage(input_tokens=0, output_tokens=0, cost_micros=5)), after(1_001))
    assert settled.usage is None
    assert isinstance(story.state, Thinking)
    assert story.state.talk.used.cost_micros == 5
