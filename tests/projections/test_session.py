"""The view of a session: a fold of its events, without any server."""

from collections.abc import Iterable

import pytest
from fastavro import parse_schema

from commands.situation import Ended
from projections.session import Summary, View, document, evolve, overview, summarize
from schemas.chain import ChainBroken
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.places import Place
from schemas.types.common import Sealed, Usage
from schemas.types.session import CancelSession, CloseSession, PostMessage, RecordFailure, RecordReply, SessionEvent
from tests.history import History


@pytest.fixture
def history() -> History:
    schema = parse_schema(bundle("soma.session.SessionEvent"))
    return History(Codec(SessionEvent, 1, {1: schema}))


def view_of(events: Iterable[SessionEvent]) -> View:
    view = View()
    for offset, event in enumerate(events):
        view = evolve(view, event, str(Place(0, offset)))
    return view


def summary_of(view: View) -> Summary:
    assert view.summary
    return view.summary


def test_a_conversation_reads_as_it_went(history: History) -> None:
    # Given a session with a message and its reply
    id = history.start("hello", metadata={"topic": "greetings"})
    history.reply(id, "hello back")
    # When it is folded
    shown = document(view_of(history.events))
    # Then the document says all of it
    assert shown == {
        "id": id,
        "status": "idle",
        "outcome": None,
        "model": "echo",
        "messages": [
            {"role": "user", "content": "hello", "at": "2026-01-01T00:00:00.001000Z", "place": "e0-1"},
            {"role": "assistant", "content": "hello back", "at": "2026-01-01T00:00:00.002000Z", "place": "e0-3"},
        ],
        "version": 4,
        "position": "0:1",
        "metadata": {"topic": "greetings"},
        "error": None,
        "usage": {"input_tokens": 3, "output_tokens": 2, "cost_micros": 0},
        "agent": None,
        "origin": None,
        "created_at": "2026-01-01T00:00:00.001000Z",
        "updated_at": "2026-01-01T00:00:00.002000Z",
    }


def test_sealed_text_is_shown_as_sealed(history: History) -> None:
    # Given a message that only the holder of a key can read
    history.start(Sealed(key_id="key-7", ciphertext=b"\x00secret"))
    # When / then
    assert document(view_of(history.events))["messages"][0]["content"] == {"sealed": "key-7"}


def test_why_a_turn_failed_is_shown_until_the_next_one(history: History) -> None:
    # Given a turn that failed
    id = history.start()
    history.send(
        id, RecordFailure(request=3, attempt="a", code="timeout", reason="No answer.", usage=Usage(input_tokens=5, output_tokens=0))
    )
    failed = view_of(history.events)
    assert document(failed)["error"] == {"code": "timeout", "reason": "No answer."}
    assert document(failed)["usage"] == {"input_tokens": 5, "output_tokens": 0, "cost_micros": 0}
    # When another one begins
    history.send(id, PostMessage(input="again"))
    # Then the error is gone
    assert document(view_of(history.events))["error"] is None


@pytest.mark.parametrize(("command", "outcome"), [(CloseSession(), "closed"), (CancelSession(reason=None), "cancelled")])
def test_an_ended_session_says_how(history: History, command: CloseSession | CancelSession, outcome: str) -> None:
    # Given
    id = history.session()
    # When
    history.send(id, command)
    # Then
    summary = summary_of(view_of(history.events))
    assert (summary.status, summary.outcome, summary.state) == ("ended", outcome, Ended(outcome))


def test_a_refusal_changes_the_position_and_the_bill_and_nothing_else(history: History) -> None:
    # Given a session with its reply
    id = history.session()
    before = overview(summary_of(view_of(history.events)))
    # When a late result comes, which was billed all the same
    late = RecordReply(request=3, attempt="b", content="late", finish_reason="stop", usage=Usage(input_tokens=7, output_tokens=9))
    [refused] = history.send(id, late, command_id="another")
    assert refused.meta.version is None
    # Then
    after = overview(summary_of(view_of(history.events)))
    assert after == before | {"position": "0:2", "usage": {"input_tokens": 10, "output_tokens": 11, "cost_micros": 0}}


def test_a_refusal_of_another_tenant_changes_nothing(history: History) -> None:
    # Given
    id = history.session()
    before = view_of(history.events)
    # When another tenant tries
    history.send(id, PostMessage(input="let me in"), tenant="another")
    # Then
    assert view_of(history.events) == before


def test_a_refusal_where_nothing_was_started_makes_no_session(history: History) -> None:
    # Given / when a command to a session that nobody started
    history.send("01900000-0000-7000-8000-000000000000", PostMessage(input="anyone?"))
    # Then
    assert view_of(history.events) == View()
    with pytest.raises(ValueError, match="not started"):
        document(View())


def test_versions_that_are_not_contiguous_stop_the_fold(history: History) -> None:
    # Given a session of which one event is left out
    history.session()
    first, _, third, *_ = history.events
    # When / then
    with pytest.raises(ChainBroken, match="version 3 after 1"):
        summarize(summarize(None, first), third)
    with pytest.raises(ChainBroken, match="version 3 after 0"):
        summarize(None, third)
