"""Rules 2 to 6 on one partition, without a broker: what a command becomes, and what a reader makes of it."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema
from msgspec.structs import replace

from schemas.chain import ChainBroken, digest
from schemas.codec import Codec
from schemas.contract import bundle
from schemas.ids import derived_id, new_id
from schemas.types.common import CommandMeta, CommandsLost, Position, RecordVoided, Usage
from schemas.types.session import (
    AskedCall,
    BeginCall,
    CancelSession,
    MessagePosted,
    PassDeadline,
    PostMessage,
    RecordReply,
    RecordResult,
    ReplyRequested,
    SessionCommand,
    SessionEvent,
    SessionStarted,
    SettleCall,
    StartSession,
    Tool,
)
from streams import aggregate, partition
from streams.partition import NEVER, Incoming, Outgoing, Partition
from streams.session import SESSION

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOME = 3
CODEC = Codec(SessionEvent, 1, {1: parse_schema(bundle("soma.session.SessionEvent"))})


class Commands:
    """A commands partition: gives each command the next offset."""

    def __init__(self, partition: int = HOME, epoch: str = "epoch") -> None:
        self.partition, self.epoch, self.offset = partition, epoch, -1

    def ask(self, session_id: str, body: Any, *, at: datetime = NOON, came: datetime = NEVER, **meta: Any) -> Incoming:
        self.offset += 1
        defaults = {"id": derived_id(session_id, self.offset), "tenant": "t", "actor": "a"}
        about = CommandMeta(aggregate_id=session_id, time=at, **defaults | meta)
        place = Position(epoch=self.epoch, partition=self.partition, offset=self.offset)
        return Incoming(place, SessionCommand(meta=about, body=body), size=100, time=came)


def start(input: str | None = "hello") -> StartSession:
    return StartSession(model="echo", input=input, metadata={}, reply_seconds=30, idle_seconds=3600)


def fresh() -> Partition:
    return Partition(SESSION, HOME, CODEC, "test")


def bodies(records: list[Outgoing]) -> list[type]:
    return [type(record.event.body) for record in records]


def replay(values: list[bytes]) -> Partition:
    read = fresh()
    for offset, value in enumerate(values):
        read.take(CODEC.decode(value), value, offset)
    read.settle()
    return read


def test_a_command_becomes_records_that_name_their_predecessors() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    records = owner.decide(commands.ask(id, start()))
    assert bodies(records) == [SessionStarted, MessagePosted, ReplyRequested]
    metas = [record.event.meta for record in records]
    assert [m.sequence for m in metas] == [1, 2, 3] == [m.version for m in metas] == [m.versions for m in metas]
    assert [m.previous for m in metas] == [bytes(16), digest(records[0].value), digest(records[1].value)]
    assert [(m.index, m.count) for m in metas] == [(0, 3), (1, 3), (2, 3)]
    assert owner.expected("epoch") == 1


def test_deciding_and_reading_give_the_same_partition() -> None:
    owner, commands, log = fresh(), Commands(), list[bytes]()
    seed = random.Random(7)
    ids = [new_id(HOME) for _ in range(5)]
    for _ in range(200):
        id = seed.choice(ids)
        body = seed.choice([start(), start(None), PostMessage(input="x"), CancelSession()])
        ahead = owner.ahead()
        log += [record.value for record in ahead.decide(commands.ask(id, body))]
        owner.adopt(ahead)
    read = replay(log)
    assert (read.head, read.applied, read.rows) == (owner.head, owner.applied, owner.rows)
    assert read.whole()


def test_what_was_decided_ahead_and_dropped_leaves_no_trace() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.ahead().decide(commands.ask(id, start()))
    assert owner.head.sequence == 0
    assert owner.peek(id).version == 0


def test_every_command_leaves_a_trace_even_a_refused_one() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    [record] = owner.decide(commands.ask(id, PostMessage(input="x")))
    assert (record.event.body.code, record.event.meta.version) == ("not_found", None)
    assert owner.expected("epoch") == 1


def test_the_same_command_twice_is_recorded_once_and_told_where_the_first_one_stands() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start(), id="c1", key_digest=b"k" * 16))
    [again] = owner.decide(commands.ask(id, start(), id="c1", key_digest=b"k" * 16))
    first = Position(epoch="epoch", partition=HOME, offset=0)
    assert (again.event.body.code, again.event.body.first) == ("duplicate", first)
    [other] = owner.decide(commands.ask(id, start("other"), id="c1", key_digest=b"z" * 16))
    assert other.event.body.code == "key_reused"


def test_a_repeated_refusal_is_a_duplicate_too() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, PostMessage(input="x"), id="c1"))
    [again] = owner.decide(commands.ask(id, PostMessage(input="x"), id="c1"))
    assert (again.event.body.code, again.event.body.first.offset) == ("duplicate", 0)


def test_a_command_is_forgotten_after_a_day() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start(None), id="c1"))
    [again] = owner.decide(commands.ask(id, PostMessage(input="x"), id="c1", at=NOON + timedelta(hours=24)))[:1]
    assert isinstance(again.event.body, MessagePosted)


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("lived", [timedelta(0), HOUR, 22.99 * HOUR, 23 * HOUR, 24 * HOUR, 25 * HOUR, 1000 * HOUR])
@pytest.mark.parametrize("ahead", [-HOUR, timedelta(0), HOUR])
def test_whenever_a_copy_comes_it_is_remembered_or_too_old(lived: timedelta, ahead: timedelta) -> None:
    # given a message that was taken, and as late as can be before its copy another one, by a clock that is apart
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start(None), at=NOON, came=NOON))
    owner.decide(commands.ask(id, PostMessage(input="pay"), id="c1", at=NOON, came=NOON))
    owner.decide(commands.ask(id, PostMessage(input="x"), at=NOON + lived + ahead, came=NOON + lived))
    before = owner.aggregate(id)
    known = (before.version, set(before.taken) | {"c1"})
    # when
    [copy] = owner.decide(commands.ask(id, PostMessage(input="pay"), id="c1", at=NOON, came=NOON + lived))
    # then
    assert copy.event.body.code in ("duplicate", "untimely")
    after = owner.aggregate(id)
    assert (after.version, set(after.taken) | {"c1"}) == known, "it changes nothing, and takes no room"


def test_a_command_of_a_clock_that_is_far_ahead_is_refused() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    [refused] = owner.decide(commands.ask(id, start(None), at=NOON + 2 * HOUR, came=NOON))
    assert refused.event.body.code == "untimely"


def test_a_copy_of_a_report_is_not_billed_again_and_another_attempts_is() -> None:
    # given
    owner, commands, id, bill = fresh(), Commands(), new_id(HOME), Usage(input_tokens=9, output_tokens=1)
    owner.decide(commands.ask(id, start("hello")))
    reply = RecordReply(request=3, attempt="a", content="hi", finish_reason="stop", usage=bill)
    owner.decide(commands.ask(id, reply, id="r1"))
    # when
    [copy] = owner.decide(commands.ask(id, reply, id="r1"))
    [other] = owner.decide(commands.ask(id, msgspec.structs.replace(reply, attempt="b"), id="r1", at=NOON + timedelta(seconds=1)))
    # then
    assert [(each.event.body.code, each.event.body.usage) for each in (copy, other)] == [("duplicate", None), ("duplicate", bill)]


def test_an_aggregate_refuses_rather_than_forgets_and_still_takes_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "MEMORY_LIMIT", 2)
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start("hello")))
    owner.decide(commands.ask(id, PostMessage(input="busy")))
    [refused] = owner.decide(commands.ask(id, PostMessage(input="x")))
    assert refused.event.body.code == "too_many_commands"
    result = RecordReply(request=3, attempt="a", content="hi", finish_reason="stop")
    assert type(owner.decide(commands.ask(id, result))[0].event.body).__name__ == "ReplyRecorded"


def test_what_was_billed_is_recorded_even_when_the_result_comes_too_late() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start("hello")))
    owner.decide(commands.ask(id, CancelSession()))
    billed = Usage(input_tokens=9, output_tokens=1)
    late = RecordReply(request=3, attempt="a", content="hi", finish_reason="stop", usage=billed)
    [refused] = owner.decide(commands.ask(id, late))
    assert (refused.event.body.code, refused.event.body.usage) == ("late", billed)


def test_what_was_charged_at_a_deadline_is_not_billed_again_by_a_late_refusal() -> None:
    # given a call that must not be repeated, charged when its time was over, and settled by a person
    log, commands, id = fresh(), Commands(), new_id(HOME)
    cost = Usage(input_tokens=0, output_tokens=0, cost_micros=5)
    pay = Tool(name="pay", version=1, repeat_safe=False, timeout_seconds=10, attempts=1, cost_micros=5, approval="never", tokens=20)
    wish = AskedCall(model_id="", tool="pay", arguments="{}", digest=digest(b"{}"))
    log.decide(commands.ask(id, replace(start(None), tools=(pay,), call=wish)))
    call = derived_id(id, "call", 0, 0)
    log.decide(commands.ask(id, BeginCall(call=call, attempt=1, executor="e1")))
    [passed, *_] = log.decide(commands.ask(id, PassDeadline(call=call), at=NOON + timedelta(hours=1)))
    assert (passed.event.body.outcome, passed.event.body.usage) == ("unknown", cost)
    log.decide(commands.ask(id, SettleCall(call=call, outcome="ok", content="paid", digest=digest(b"paid"))))
    # when the executor comes back
    told = RecordResult(call=call, attempt=1, outcome="ok", content="paid", digest=digest(b"paid"), bytes=4, usage=cost)
    [refused] = log.decide(commands.ask(id, told, at=NOON + timedelta(hours=2)))
    # then
    assert (refused.event.body.code, refused.event.body.usage) == ("late", None)


def test_a_command_in_the_wrong_partition_is_misrouted() -> None:
    owner, commands = fresh(), Commands()
    for id in (new_id(HOME + 1), "no uuid"):
        [refused] = owner.decide(commands.ask(id, start()))
        assert refused.event.body.code == "misrouted"


def test_another_tenant_finds_nothing_and_a_wrong_version_is_a_conflict() -> None:
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    owner.decide(commands.ask(id, start(None)))
    assert owner.decide(commands.ask(id, CancelSession(), tenant="other"))[0].event.body.code == "not_found"
    assert owner.decide(commands.ask(id, CancelSession(), expected_version=7))[0].event.body.code == "version_conflict"
    assert type(owner.decide(commands.ask(id, CancelSession(), expected_version=1))[0].event.body).__name__ == "SessionCancelled"


def test_what_does_not_fit_into_one_append_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "RECORD_LIMIT", 5_000)
    owner, commands, id = fresh(), Commands(), new_id(HOME)
    [refused] = owner.decide(msgspec.structs.replace(commands.ask(id, start("x" * 6_000)), size=6_000))
    assert refused.event.body.code == "too_large"
    assert owner.peek(id).version == 0


def test_bytes_that_nobody_can_read_are_refused_in_their_place() -> None:
    owner, id = fresh(), new_id(HOME)
    place = Position(epoch="epoch", partition=HOME, offset=0)
    [refused] = owner.decide(Incoming(place, None, key=id.encode(), time=NOON, unreadable="no framing"))
    assert (refused.event.meta.aggregate_id, refused.event.body.code) == (id, "unreadable")
    assert owner.expected("epoch") == 1


def test_a_recreated_commands_topic_begins_at_its_own_beginning() -> None:
    owner = fresh()
    owner.decide(Commands(epoch="old").ask(new_id(HOME), start(None)))
    assert (owner.expected("old"), owner.expected("new")) == (1, 0)


def test_a_hole_in_the_commands_is_on_record_and_passed() -> None:
    owner = fresh()
    [lost] = owner.lost(0, Position(epoch="epoch", partition=HOME, offset=41), NOON)
    assert lost.event.body == CommandsLost(first_offset=0, last_offset=41)
    assert owner.expected("epoch") == 42


# The chain, for readers


def history() -> list[bytes]:
    owner, commands = fresh(), Commands()
    return [r.value for id in (new_id(HOME), new_id(HOME)) for r in owner.decide(commands.ask(id, start()))]


def test_a_second_writers_records_are_void_and_the_chain_goes_on() -> None:
    first, second, commands = fresh(), fresh(), Commands()
    asked = [commands.ask(new_id(HOME), start()) for _ in range(2)]
    torn = [record.value for record in second.decide(asked[1])]
    kept = [record.value for record in first.decide(asked[0])]
    more = [record.value for record in first.decide(commands.ask(new_id(HOME), start()))]
    read = fresh()
    for offset, value in enumerate(kept + torn + more):
        read.take(CODEC.decode(value), value, offset)
    assert (read.head.sequence, read.head.void) == (6, 3)


def test_a_repeated_delivery_is_void() -> None:
    values = history()
    read = fresh()
    for offset, value in enumerate([*values, *values]):
        read.take(CODEC.decode(value), value, offset)
    assert (read.head.sequence, read.head.void) == (6, 6)


def test_nothing_continues_an_altered_record() -> None:
    values = history()
    values[2] = values[2].replace(b"echo", b"ECHO")
    read = replay(values)
    assert (read.head.sequence, read.head.void) == (3, 3)


def test_valid_records_that_stop_are_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.chain.VOID_LIMIT", 2)
    with pytest.raises(ChainBroken, match="do not continue sequence 6"):
        replay(history() + [history()[1]] * 3)


def test_an_unreadable_record_is_void_once_the_chain_goes_on_without_it() -> None:
    values = history()
    read = fresh()
    for offset, value in enumerate(values[:3]):
        read.take(CODEC.decode(value), value, offset)
    read.head = read.head.pass_unreadable(3)
    assert read.head.doubt == 3
    assert read.take(CODEC.decode(values[3]), values[3], 4)
    assert read.head.doubt is None
    assert read.head.void == 1


def test_a_record_that_builds_on_an_unreadable_one_stops_the_reader() -> None:
    values = history()
    read = fresh()
    for offset, value in enumerate(values[:3]):
        read.take(CODEC.decode(value), value, offset)
    read.head = read.head.pass_unreadable(3)
    with pytest.raises(ChainBroken, match="offset 3: the record cannot be read"):
        read.take(CODEC.decode(values[4]), values[4], 4)


def test_an_operator_takes_an_unreadable_record_out_of_the_chain_on_record() -> None:
    owner = fresh()
    owner.decide(Commands().ask(new_id(HOME), start(None)))
    owner.head = owner.head.pass_unreadable(1)
    [voided] = owner.voided(1, "garbage", "operator", NOON)
    assert voided.event.body == RecordVoided(offset=1, reason="garbage")
    assert (owner.head.doubt, owner.expected("epoch")) == (None, 1)
