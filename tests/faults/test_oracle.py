"""The oracle itself: it must see what it is there to see."""

import time
from typing import Any

import pytest
from fastavro import parse_schema

from schemas.codec import Codec
from schemas.contract import subjects
from schemas.ids import new_id
from schemas.types.session import PostMessage, RecordReply, SessionEvent, StartSession
from tests.faults.client import Journal, Operation
from tests.faults.oracle import Report, compare
from tests.faults.record import Record
from tests.history import EVENTS, History, Written

CODEC: Codec[SessionEvent] = Codec(SessionEvent, 1, {1: parse_schema(subjects()[f"{EVENTS}-value"])})


@pytest.fixture
def history() -> History:
    return History(CODEC)


@pytest.fixture
def session(history: History) -> Operation:
    """A session that was started, and answered by the echo; its caller was told so."""
    start = operation("start", 1, None)
    id = new_id(0)
    said = StartSession(model="echo", input=f"{start.mark} hello", metadata={"mark": start.mark}, reply_seconds=60, idle_seconds=60)
    history.send(id, said, command_id=start.command)
    answer(history, id, f"echo: {start.mark} hello")
    start.session = id
    return start


def operation(kind: Any, number: int, session: str | None) -> Operation:
    mark = f"seed/1/0/{number}"
    return Operation(
        kind, mark, f"key-{mark}", session, time.monotonic(), sent=True, acknowledged=True, settled=True, status=200 if session else 201
    )


def post(history: History, session: str, number: int) -> Operation:
    message = operation("messages", number, session)
    history.send(session, PostMessage(input=f"{message.mark} and"), command_id=message.command)
    return message


def answer(history: History, session: str, text: str) -> None:
    request = history.partition.peek(session).state.request
    history.send(session, RecordReply(request=request, attempt="a", content=text, finish_reason="stop"))


def read(history: History) -> Record:
    return take(history.take())


def take(written: list[Written]) -> Record:
    record = Record("test-epoch")
    for offset, each in enumerate(written):
        record.take(0, offset, each.value, CODEC.decode(each.value))
    return record


def found(record: Record, *operations: Operation) -> set[str]:
    report = Report("", Journal("seed", list(operations)))
    compare(report.journal, record, report)
    return set(report.wrong())


def test_a_record_that_bears_out_what_was_told_is_clean(history: History, session: Operation) -> None:
    assert not found(read(history), session)


def test_an_acknowledged_write_without_a_record_is_lost(history: History, session: Operation) -> None:
    assert found(read(history), session, operation("messages", 2, session.session)) == {"lost"}


def test_a_write_that_is_recorded_though_its_caller_was_told_otherwise_is_denied(history: History, session: Operation) -> None:
    message = post(history, session.session or "", 2)
    answer(history, session.session or "", f"echo: {message.mark} and")
    record = read(history)
    message.status = 409
    assert found(record, session, message) == {"denied"}
    message.status, message.sent, message.acknowledged = 503, False, False
    assert found(record, session, message) == {"denied"}


def test_a_write_that_was_confirmed_and_refused_is_denied(history: History, session: Operation) -> None:
    post(history, session.session or "", 2)
    refused = post(history, session.session or "", 3)
    answer(history, session.session or "", "echo: seed/1/0/2 and")
    assert found(read(history), session, refused) == {"denied"}


def test_messages_in_another_order_than_said_are_seen(history: History, session: Operation) -> None:
    for number in (3, 2):
        message = post(history, session.session or "", number)
        answer(history, session.session or "", f"echo: {message.mark} and")
    assert found(read(history), session) == {"disorder"}


def test_a_reply_to_something_else_is_seen(history: History, session: Operation) -> None:
    post(history, session.session or "", 2)
    answer(history, session.session or "", "echo: something else")
    assert found(read(history), session) == {"denied"}


def test_a_session_that_nobody_answers_is_seen(history: History, session: Operation) -> None:
    post(history, session.session or "", 2)
    assert found(read(history), session) == {"unanswered"}


def test_a_command_that_is_recorded_in_part_is_torn(history: History, session: Operation) -> None:
    whole = history.take()
    assert found(take(whole[:2])) >= {"torn"}


def test_a_command_that_is_recorded_twice_is_seen(history: History, session: Operation) -> None:
    record = read(history)
    [outcome] = record.outcomes[session.command]
    record.outcomes[session.command].append(outcome)
    record.chains[0].applied[0] += 1
    assert found(record, session) == {"twice"}


def test_records_that_do_not_continue_the_chain_are_counted_and_not_believed(history: History, session: Operation) -> None:
    whole = history.take()
    record = take([*whole, *whole])
    assert record.void == len(whole)
    assert not found(record, session)
