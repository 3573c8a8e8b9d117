"""Rules 5 and 7 to 9 on a real broker: what only a log can show."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from commands.situation import Thinking
from ops.settings import Settings
from schemas.chain import ChainBroken
from schemas.types.common import CommandsLost
from schemas.types.session import CloseSession, PostMessage, RecordFailure, ReplyRequested
from streams.processor import DEADLINES
from streams.session import SESSION
from streams.snapshots import load
from streams.void import NotInDoubt, void
from tests.streams.conftest import Bench, start


def kinds(bench: Bench) -> list[str]:
    return [type(event.body).__name__ for event in bench.events()]


async def test_commands_that_no_delivery_brings_are_found_at_the_assignment(bench: Bench) -> None:
    # given commands on the topic, and a committed offset beyond them that nobody can trust
    for _ in range(3):
        await bench.send(start())
    # when a worker is assigned the partition and is delivered nothing
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == 3)
    # then all of them are in the record
    assert kinds(bench) == ["SessionStarted"] * 3


async def test_a_delivery_that_leaves_a_gap_is_filled_from_the_log_and_one_that_repeats_is_skipped(bench: Bench) -> None:
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.epoch != "")
        for _ in range(4):
            await bench.send(start())
        records = bench.commands()
        # when deliveries leave out two and repeat two
        await bench.deliver(processor, [records[0], records[3], records[1], records[3]])
        await bench.until(processor, lambda: len(bench.acknowledged) == 4)
    assert kinds(bench) == ["SessionStarted"] * 4
    assert bench.acknowledged == [0, 3, 1, 3]


async def test_waiting_commands_share_one_append_and_a_large_group_is_split(bench: Bench) -> None:
    offsets = [await bench.send(start("x" * 1_500)) for _ in range(40)]
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.expected(processor.epoch) > offsets[-1])
    groups = {event.meta.command.offset for event in bench.events()}
    assert groups == set(offsets)


async def test_a_second_writer_is_noticed_and_its_commands_are_not_decided_again(bench: Bench) -> None:
    # given a worker that froze after it resumed, and another that took over and went on
    frozen = bench.processor()
    await frozen._resume()
    for _ in range(3):
        await bench.send(start("hello"))
    async with bench.running() as successor:
        await bench.until(successor, lambda: successor.partition.head.sequence == 9)
    # when the frozen one wakes, and is delivered an old command and a new one
    await bench.send(start())
    task = asyncio.create_task(frozen.run())
    await bench.deliver(frozen, bench.commands())
    await bench.until(frozen, lambda: len(bench.acknowledged) == 4)
    task.cancel()
    # then each command is in the record once
    applied = [event.meta.command.offset for event in bench.events() if event.meta.index == event.meta.count - 1]
    assert applied == [0, 1, 2, 3]


async def test_a_group_that_lands_behind_another_writers_is_void_and_decided_again(bench: Bench) -> None:
    first, second = bench.processor(), bench.processor()
    await first._resume()
    await second._resume()
    await bench.send(start("hello"))
    [command] = bench.commands()
    for writer in (first, second):
        await bench.deliver(writer, [command])
    # when both append for the same command
    await first._step()
    await second._step()
    # then the second one's group is void for every reader, and it has folded the first one's
    assert (second.partition.head.sequence, second.partition.head.void) == (3, 3)
    assert second.partition.rows == first.partition.rows
    # and it goes on, knowing that the command is in the record
    await second._step()
    assert len(bench.events()) == 3
    assert bench.acknowledged == [0, 0]


async def test_a_hole_made_by_retention_is_on_record_and_passed(bench: Bench) -> None:
    for _ in range(5):
        await bench.send(start())
    admin = AdminClient(bench.services.log._config)
    for done in admin.delete_records([TopicPartition(SESSION.commands, bench.home, 3)]).values():
        done.result(10)
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.expected(processor.epoch) == 5)
    events = bench.events()
    assert events[0].body == CommandsLost(first_offset=0, last_offset=2)
    assert [event.meta.command.offset for event in events] == [2, 3, 4]


async def test_bytes_that_cannot_be_read_are_kept_refused_and_passed(bench: Bench) -> None:
    session = bench.new_id()
    await bench.send_bytes(b"\x00\x00\x00\x00\x00garbage", session.encode())
    await bench.send_bytes(b"no framing", b"no key")
    await bench.send(start())
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == 3)
    events = bench.events()
    assert [getattr(event.body, "code", None) for event in events] == ["unreadable", "unreadable", None]
    assert [event.meta.aggregate_id for event in events][:2] == [session, ""]
    log = bench.services.log
    kept = list(log.read("soma.dead-letter", 0, 0, log.bounds("soma.dead-letter", 0)[1]))[-2:]
    assert [record.value for record in kept] == [b"\x00\x00\x00\x00\x00garbage", b"no framing"]
    assert dict(kept[0].headers)["soma_place"] == f"{SESSION.commands}/{bench.home}/0".encode()


async def test_a_snapshot_gives_the_same_partition_as_the_whole_log(bench: Bench) -> None:
    ids = [bench.new_id() for _ in range(5)]
    async with bench.running() as processor:
        for id in ids:
            await bench.send(start("hello"), id)
        await bench.deliver(processor, bench.commands())
        await bench.until(processor, lambda: processor.partition.head.sequence == 15)
        await processor.snapshots.save()
        # given records beyond the watermark
        await bench.send(CloseSession(), ids[0])
        await bench.deliver(processor, bench.commands(5))
        await bench.until(processor, lambda: processor.partition.head.sequence == 16)
    # when one worker resumes from the snapshot, and one from the beginning
    resumed, folded = bench.processor(), bench.processor()
    assert load(bench.services.log, SESSION, resumed.partition)
    assert resumed.partition.head.sequence == 15
    await resumed._fold()
    await folded._fold()
    assert (resumed.partition.rows, resumed.partition.head) == (folded.partition.rows, folded.partition.head)


async def test_a_snapshot_that_does_not_account_for_the_record_is_not_believed(bench: Bench) -> None:
    id = bench.new_id()
    async with bench.running() as processor:
        await bench.send(start(), id)
        await bench.deliver(processor, bench.commands())
        await bench.until(processor, lambda: processor.partition.head.sequence == 1)
        await processor.snapshots.save()
        old_row = processor.partition.rows[id]
        await bench.send(PostMessage(input="x"), id)
        await bench.deliver(processor, bench.commands(1))
        await bench.until(processor, lambda: processor.partition.head.sequence == 3)
        await processor.snapshots.save()
    # given a late row of a worker that had lost the partition
    await bench.services.side.send_and_wait(SESSION.snapshots, old_row, id.encode(), partition=bench.home)
    # when a worker resumes
    async with bench.running() as successor:
        await bench.until(successor, lambda: successor.epoch != "" and successor.partition.head.sequence == 3)
        # then it folded from the beginning, and knows the truth
        await bench.until(successor, lambda: isinstance(successor.partition.peek(id).state, Thinking))


async def test_a_snapshot_of_other_code_is_not_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.running() as processor:
        await bench.send(start())
        await bench.deliver(processor, bench.commands())
        await bench.until(processor, lambda: processor.partition.head.sequence == 1)
        await processor.snapshots.save()
    monkeypatch.setattr(type(SESSION), "fingerprint", lambda _: "of another release")
    assert not load(bench.services.log, SESSION, bench.processor().partition)


async def test_what_a_state_waits_for_is_wanted_again_after_a_takeover(bench: Bench) -> None:
    id = bench.new_id()
    await bench.send(start("hello"), id)
    async with bench.running() as processor:
        await bench.until(processor, lambda: id in bench.noted.wanted)
    bench.noted.wanted.clear()
    async with bench.running() as successor:
        await bench.until(successor, lambda: bench.noted.wanted.get(id) is not None)
    requested = next(event for event in bench.events() if isinstance(event.body, ReplyRequested))
    assert bench.noted.wanted[id].request == requested.meta.version


async def test_a_passed_deadline_becomes_one_command(bench: Bench) -> None:
    id = bench.new_id()
    past = datetime.now(UTC) - timedelta(minutes=5)
    async with bench.running() as processor:
        await bench.send(start("hello"), id, time=past)
        await bench.deliver(processor, bench.commands())
        await bench.until(processor, lambda: bench.noted.wanted.get(id) is not None)
        await processor.tick()
        await processor.tick()
        [command] = bench.commands(1)
        assert isinstance(bench.services.commands.decode(command.value).body, RecordFailure)
        await bench.deliver(processor, [command])
        await bench.until(processor, lambda: bench.noted.wanted.get(id) is None)
    assert kinds(bench)[-1] == "ReplyFailed"


async def test_garbage_at_the_end_of_the_events_stops_the_writer(bench: Bench) -> None:
    await bench.send(start())
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == 1)
    await bench.services.side.send_and_wait(SESSION.events, b"garbage", partition=bench.home)
    with pytest.raises(ChainBroken, match="offset 1 cannot be read"):
        await bench.processor().run()


async def test_a_rogue_record_is_void_and_nobody_folds_it(bench: Bench) -> None:
    await bench.send(start("hello"))
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == 3)
        # given a rogue copy of a valid record, behind the writer's back
        rogue = next(iter(bench.services.log.read(SESSION.events, bench.home, 1, 2)))
        await bench.services.side.send_and_wait(SESSION.events, rogue.value, partition=bench.home)
        await bench.send(start())
        await bench.deliver(processor, bench.commands(1))
        await bench.until(processor, lambda: processor.partition.head.sequence == 4)
    # the writer's append landed behind the rogue, whom nobody takes: so it continued the chain all the same
    assert processor.partition.head.void == 1
    assert kinds(bench) == ["SessionStarted", "MessagePosted", "ReplyRequested", "SessionStarted"]


async def test_an_operator_voids_garbage_and_the_writer_goes_on(bench: Bench, platform: Settings) -> None:
    # given garbage that stops the writer
    await bench.send(start())
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == 1)
    await bench.services.side.send_and_wait(SESSION.events, b"garbage", partition=bench.home)
    # when an operator says that it is void; another place cannot be meant
    with pytest.raises(NotInDoubt, match="does not wait for offset 0, but for 1"):
        await asyncio.to_thread(void, platform, SESSION, bench.home, 0, "a mistake")
    await asyncio.to_thread(void, platform, SESSION, bench.home, 1, "a broken tool")
    # then the writer goes on, and the record says who and why
    await bench.send(start())
    async with bench.running() as successor:
        await bench.until(successor, lambda: successor.partition.head.sequence == 3)
    assert kinds(bench) == ["SessionStarted", "RecordVoided", "SessionStarted"]


async def test_many_passed_deadlines_hold_up_neither_the_snapshot_nor_the_partition(bench: Bench) -> None:
    # given more sessions than a tick ends, idle past their time
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    for _ in range(DEADLINES + 5):
        await bench.send(start(), time=long_ago)
    async with bench.running() as processor:
        await bench.until(processor, lambda: processor.partition.head.sequence == DEADLINES + 5)
        # when a second passes
        await processor.tick()
        # then the states are safe, and some of the sessions are told to end
        assert not processor.snapshots.changed
        assert len(bench.commands()) == 2 * DEADLINES + 5
        # and the rest a second later
        await processor.tick()
        assert len(bench.commands()) == 2 * (DEADLINES + 5)
