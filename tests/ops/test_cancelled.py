"""What is said of the effects that a cancel found under way, from records that the real decider made."""

import pytest
from fastavro import parse_schema

from commands.situation import calls
from ops.cancelled import told
from schemas.chain import digest
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.ids import derived_id, new_id
from schemas.types.common import Usage
from schemas.types.session import ApproveCall, CancelSession, PassDeadline, RecordReply, SessionEvent, SettleCall
from tests.commands.test_call import ADD, ASK_FIRST, PAY, begin, reply, result, start, wish
from tests.history import History

BILLED = Usage(input_tokens=7, output_tokens=2, cost_micros=11)


class Told:
    """One session, and what its record says of its cancel."""

    def __init__(self) -> None:
        self.history = History(Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))}))
        self.id = new_id(0)

    def asked(self, *names: str) -> list[str]:
        """The model asked for calls of these tools. Their ids."""
        self.history.send(self.id, start(ADD, PAY, ASK_FIRST))
        self.history.send(self.id, reply(3, *(wish(name, f'{{"n":{n}}}') for n, name in enumerate(names))))
        return [call.call for call in calls(self.history.partition.peek(self.id).state)]

    def send(self, body: object, command_id: str | None = None) -> None:
        self.history.send(self.id, body, command_id=command_id)

    def cancel(self) -> None:
        self.send(CancelSession(reason="enough"))

    @property
    def lines(self) -> list[str]:
        return told(self.history.events)


@pytest.fixture
def session() -> Told:
    return Told()


def test_without_a_cancel_there_is_nothing_to_tell(session: Told) -> None:
    [call] = session.asked("add")
    session.send(begin(call))
    assert session.lines == []


def test_a_cancel_while_nothing_ran_says_so(session: Told) -> None:
    [call] = session.asked("add")
    session.send(begin(call))
    session.send(result(call))
    session.send(RecordReply(request=8, attempt="a", content="42", finish_reason="stop"))
    session.cancel()
    assert session.lines == ["nothing was under way"]


def test_a_result_that_came_too_late_is_told_with_its_delay_and_what_was_billed(session: Told) -> None:
    # given a call that runs, and is cancelled
    [call] = session.asked("pay")
    session.send(begin(call))
    session.cancel()
    running = f"call pay {call}: attempt 1 running at executor e1: outcome unknown"
    assert session.lines == [running]
    # when its result comes by the id that its attempt's outcomes have
    session.send(result(call, usage=BILLED), derived_id(call, "result", 1, ""))
    # then
    assert session.lines == [f"{running}; a result came 0.001 s after the cancel and was refused (billed: 7 + 2 tokens, 11 millionths)"]


def test_a_late_reply_of_the_model_is_told_too(session: Told) -> None:
    # given a model that was asked again, when a cancel came
    [call] = session.asked("add")
    session.send(begin(call))
    session.send(result(call))
    session.cancel()
    assert session.lines == ["model call 8: running, interrupted"]
    # when
    late = RecordReply(request=8, attempt="a", content="42", finish_reason="stop")
    session.send(late, derived_id(session.id, "reply", 8))
    # then
    assert session.lines == ["model call 8: running, interrupted; a result came 0.001 s after the cancel and was refused"]


def test_a_refusal_that_belongs_to_no_effect_is_not_taken_for_a_late_result(session: Told) -> None:
    [call] = session.asked("pay")
    session.send(begin(call))
    session.cancel()
    session.send(begin(call, executor="e2"))
    assert session.lines == [f"call pay {call}: attempt 1 running at executor e1: outcome unknown"]


def test_a_call_that_waited_for_an_approval_is_told_from_one_that_had_it(session: Told) -> None:
    # given two calls that need an approval, one of which gets it
    approved, waiting = session.asked("wipe", "wipe")
    session.send(ApproveCall(call=approved, digest=digest(b'{"n":0}')))
    # when
    session.cancel()
    # then
    assert session.lines == [
        f"call wipe {approved}: queued, never began",
        f"call wipe {waiting}: waiting for an approval, never began",
    ]


def test_an_attempt_that_came_back_is_told_from_one_that_runs(session: Told) -> None:
    # given a call whose first attempt failed, so that another is to come
    [call] = session.asked("add")
    session.send(begin(call))
    session.send(result(call, outcome="error", retry=True), derived_id(call, "result", 1, ""))
    # when
    session.cancel()
    # then
    returned = f"call add {call}: queued again after attempt 1, which failed; the next one never began"
    assert session.lines == [returned]
    # and a late report of the attempt that came back changes nothing
    session.send(result(call), derived_id(call, "result", 1, "again"))
    assert session.lines == [returned]


def test_the_second_attempt_of_a_call_is_the_one_whose_late_result_counts(session: Told) -> None:
    [call] = session.asked("add")
    session.send(begin(call))
    session.send(result(call, outcome="error", retry=True), derived_id(call, "result", 1, ""))
    session.send(begin(call, attempt=2, executor="e2"))
    session.cancel()
    session.send(result(call, attempt=2), derived_id(call, "result", 2, ""))
    assert session.lines == [
        f"call add {call}: attempt 2 running at executor e2: outcome unknown; a result came 0.001 s after the cancel and was refused"
    ]


def test_what_became_known_after_the_cancel_is_told(session: Told) -> None:
    # given a call that was given up at its deadline, before the cancel
    [call] = session.asked("pay")
    session.send(begin(call))
    session.history.commands += 3_600_000  # its clock: milliseconds
    session.send(PassDeadline(call=call))
    session.cancel()
    model = "model call 8: running, interrupted"
    assert session.lines == [f"call pay {call}: attempt 1 was given up before: outcome unknown", model]
    # when
    session.send(SettleCall(call=call, outcome="ok", content="paid", digest=digest(b"paid")))
    # then
    assert session.lines == [f"call pay {call}: its outcome became known later: ok", model]
