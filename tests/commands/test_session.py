"""The session's decider, told as stories and then shaken by random ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import session
from commands.decision import Refusal
from commands.session import decide
from commands.situation import Absent, Ended, Idle, State, Thinking, evolve, initial
from commands.talk import MAX_MESSAGES, Talk, Terms
from schemas.types.common import CommandMeta, EventMeta, Position, Usage
from schemas.types.session import (
    CancelSession,
    CloseSession,
    ExpireSession,
    MessagePosted,
    PostMessage,
    RecordFailure,
    RecordReply,
    ReplyFailed,
    ReplyRecorded,
    ReplyRequested,
    SessionCancelled,
    SessionClosed,
    SessionCommand,
    SessionEvent,
    SessionExpired,
    SessionStarted,
    StartSession,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=3, output_tokens=5)


def start(input: str | None = None) -> StartSession:
    return StartSession(model="echo", input=input, metadata={"team": "a"}, reply_seconds=30, idle_seconds=3600)


def reply(request: int) -> RecordReply:
    return RecordReply(request=request, attempt="a1", content="hi", finish_reason="stop", usage=USAGE)


def failure(request: int) -> RecordFailure:
    return RecordFailure(request=request, attempt="a1", code="unavailable", reason="down")


def ask(body: Any, at: datetime = NOON) -> SessionCommand:
    return SessionCommand(meta=CommandMeta(id="c", aggregate_id="s", tenant="t", actor="a", time=at), body=body)


def fold(state: State, version: int, bodies: list[Any], at: datetime) -> State:
    for body in bodies:
        version += 1
        place = Position(epoch="e", partition=0, offset=version)
        meta = EventMeta(
            id="e", aggregate_id="s", version=version, sequence=version, previous=bytes(16), versions=version, tenant="t", actor="a",
            time=at, command_id="c", command=place, index=0, count=1, origin="test",
        )  # fmt: skip
        state = evolve(state, SessionEvent(meta=meta, body=body))
    return state


class Story:
    """given(...) commands were taken, when(...) one comes, what then."""

    def __init__(self) -> None:
        self.state: State = initial
        self.version = 0

    def given(self, *bodies: Any) -> "Story":
        for body in bodies:
            assert not isinstance(self.when(body), Refusal), f"given {body} must be possible"
        return self

    def when(self, body: Any, at: datetime = NOON) -> Any:
        decided = decide(self.state, ask(body, at))
        if not isinstance(decided, Refusal):
            self.state = fold(self.state, self.version, decided, at)
            self.version += len(decided)
        return decided


def kinds(decided: Any) -> list[type]:
    return [type(body) for body in decided]


def test_a_start_with_input_asks_the_model_at_once() -> None:
    story = Story()
    assert kinds(story.when(start("hello"))) == [SessionStarted, MessagePosted, ReplyRequested]
    assert isinstance(story.state, Thinking)
    assert story.state.deadline == NOON + timedelta(seconds=30)


def test_a_start_without_input_waits_for_a_message() -> None:
    story = Story().given(start())
    assert isinstance(story.state, Idle)
    assert kinds(story.when(PostMessage(input="hello"))) == [MessagePosted, ReplyRequested]


def test_the_reply_to_the_open_request_is_recorded_with_its_cost() -> None:
    story = Story().given(start("hello"))
    [recorded] = story.when(reply(request=3))
    assert isinstance(recorded, ReplyRecorded)
    assert (recorded.content, recorded.usage) == ("hi", USAGE)
    assert isinstance(story.state, Idle)
    assert story.state.talk.messages == 2


def test_a_failed_call_leaves_the_session_usable() -> None:
    story = Story().given(start("hello"))
    assert kinds(story.when(failure(request=3))) == [ReplyFailed]
    assert kinds(story.when(PostMessage(input="again"))) == [MessagePosted, ReplyRequested]


def test_cancel_stops_a_thinking_session_and_a_late_reply_is_refused() -> None:
    story = Story().given(start("hello"))
    assert kinds(story.when(CancelSession(reason="enough"))) == [SessionCancelled]
    assert story.state == Ended("cancelled")
    assert story.when(reply(request=3)).code == "late"


def test_a_session_expires_only_after_lying_idle() -> None:
    story = Story().given(start())
    assert story.when(ExpireSession(), NOON + timedelta(seconds=3599)).code == "not_due"
    assert kinds(story.when(ExpireSession(), NOON + timedelta(seconds=3600))) == [SessionExpired]


def test_a_full_session_takes_no_message_whose_reply_would_not_fit() -> None:
    terms = Terms("echo", 30, 3600)
    nearly = Idle(Talk(terms, MAX_MESSAGES - 2), NOON)
    full = Idle(Talk(terms, MAX_MESSAGES - 1), NOON)
    assert isinstance(decide(nearly, ask(PostMessage(input="x"))), list)
    assert decide(full, ask(PostMessage(input="x"))).code == "full"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given_", "when", "code"),
    [
        ([], PostMessage(input="x"), "not_found"),
        ([], CancelSession(), "not_found"),
        ([], CloseSession(), "not_found"),
        ([], reply(1), "late"),
        ([start()], start(), "exists"),
        ([start()], reply(3), "late"),
        ([start()], failure(3), "late"),
        ([start("hello")], PostMessage(input="x"), "busy"),
        ([start("hello")], CloseSession(), "busy"),
        ([start("hello")], reply(2), "late"),
        ([start("hello")], ExpireSession(), "not_due"),
        ([start(), CloseSession()], PostMessage(input="x"), "ended"),
        ([start(), CloseSession()], CancelSession(), "ended"),
        ([start(), CancelSession()], CloseSession(), "ended"),
    ],
)
def test_what_does_not_fit_the_situation_is_refused_by_name(given_: list[Any], when: Any, code: str) -> None:
    story = Story().given(*given_)
    before = story.state
    assert story.when(when).code == code
    assert story.state == before


def test_a_passed_deadline_becomes_the_one_outcome_of_the_call() -> None:
    story = Story().given(start("hello"))
    id, body = session.when_due(story.state, "s")
    assert id == session.result_id("s", 3)
    assert kinds(story.when(body)) == [ReplyFailed]


bodies = st.one_of(
    st.builds(start, st.none() | st.text(max_size=5)),
    st.builds(PostMessage, input=st.text(max_size=5)),
    st.builds(reply, st.integers(1, 12)),
    st.builds(failure, st.integers(1, 12)),
    st.builds(CancelSession, reason=st.none() | st.text(max_size=5)),
    st.just(CloseSession()),
    st.just(ExpireSession()),
)
histories = st.lists(st.tuples(bodies, st.integers(0, 5000)), max_size=30)


@given(histories)
def test_whatever_is_asked_decisions_are_repeatable_and_the_end_is_final(history: list[tuple[Any, int]]) -> None:
    story, ended, recorded = Story(), None, []
    for body, seconds in history:
        at = NOON + timedelta(seconds=seconds)
        before = story.state
        decided = story.when(body, at)
        assert decided == decide(before, ask(body, at)), "the same state and command decide the same"
        if isinstance(decided, Refusal):
            assert story.state == before
        else:
            assert decided, "a command that is not refused leads to an event"
            assert ended is None, "nothing follows the end"
            recorded.append((decided, at))
        ended = story.state if isinstance(story.state, Ended) else ended
    replayed, version = initial, 0
    for decided, at in recorded:
        replayed = fold(replayed, version, decided, at)
        version += len(decided)
    assert (replayed, version) == (story.state, story.version)


@given(histories)
def test_a_state_waits_for_a_model_exactly_while_it_thinks(history: list[tuple[Any, int]]) -> None:
    story = Story()
    for body, seconds in history:
        story.when(body, NOON + timedelta(seconds=seconds))
        assert (session.outstanding(story.state) is not None) == isinstance(story.state, Thinking)
        assert (session.due(story.state) is None) == isinstance(story.state, Absent | Ended)


def test_an_event_that_cannot_follow_is_an_error() -> None:
    with pytest.raises(ValueError, match="SessionClosed cannot follow Absent"):
        fold(initial, 0, [SessionClosed()], NOON)
