"""What a gateway keeps of its decisions while Kafka is down, and how it counts those who knock without end."""

import stat
from datetime import timedelta
from pathlib import Path

from gateway.repeats import KNOCKERS, WINDOW, Repeats
from gateway.spool import Batch, Spool
from tests.commands.test_audit import NOON, made


def batch(number: int) -> Batch:
    return Batch("g1", number, "t", (made(f"{number}"),))


def numbers(spool: Spool) -> list[int]:
    return [each.number for each in spool.read()[0]] if spool.waiting else []


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_written_down_is_read_in_its_order_and_goes_once_it_was_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data", 1 << 20)
    spool.append([batch(1), batch(2)])
    spool.append([batch(3)])
    found, end = spool.read()
    assert found == [batch(1), batch(2), batch(3)]
    # when more comes while these are sent
    spool.append([batch(4)])
    spool.sent(end)
    assert numbers(spool) == [4]
    spool.sent(spool.read()[1])
    assert spool.waiting == 0
    assert (tmp_path / "data" / "audit-0.spool").stat().st_size == 0


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    Spool(tmp_path, 1 << 20).append([batch(1)])
    assert stat.S_IMODE((tmp_path / "audit-0.spool").stat().st_mode) == 0o600


def test_the_next_process_goes_on_with_what_a_dead_one_left_but_for_half_a_line(tmp_path: Path) -> None:
    # given one that died in the middle of a line, after it had sent a part
    first = Spool(tmp_path, 1 << 20)
    first.append([batch(1), batch(2)])
    first.close()
    with (tmp_path / "audit-0.spool").open("ab") as file:
        file.write(b'{"source":"g1","num')
    # when
    second = Spool(tmp_path, 1 << 20)
    second.append([batch(3)])
    # then
    assert numbers(second) == [1, 2, 3]


def test_each_process_has_its_own_file_and_takes_over_those_of_the_dead(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, 1 << 20), Spool(tmp_path, 1 << 20)
    first.append([batch(1)])
    second.append([batch(2)])
    assert files(tmp_path) == ["audit-0.spool", "audit-1.spool"]
    assert (numbers(first), numbers(second)) == ([1], [2])
    # when both end, and one starts
    first.close()
    second.close()
    third = Spool(tmp_path, 1 << 20)
    third.append([])
    # then
    assert numbers(third) == [1, 2]
    assert files(tmp_path) == ["audit-0.spool"]


def test_a_line_that_somebody_spoilt_costs_that_line_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    spool.append([batch(1)])
    spool.close()
    with (tmp_path / "audit-0.spool").open("ab") as file:
        file.write(b"garbage\n")
    again = Spool(tmp_path, 1 << 20)
    again.append([batch(2)])
    assert numbers(again) == [1, 2]


def test_it_is_full_at_its_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 500)
    assert not spool.full
    spool.append([batch(1), batch(2)])
    assert spool.full
    spool.sent(spool.read()[1])
    assert not spool.full


def test_of_the_same_denial_the_first_stands_for_itself_and_one_more_for_all_others() -> None:
    repeats, late = Repeats(), made("last", outcome="denied")
    assert repeats.take("t", made("a", outcome="denied")) == ("a", [])
    assert repeats.take("t", made("b", outcome="denied")) == ("a", [])
    assert repeats.take("t", late) == ("a", [])
    assert repeats.over(NOON + WINDOW - timedelta(seconds=1)) == []
    [(tenant, counted)] = repeats.over(NOON + WINDOW)
    assert (tenant, counted.count, counted.first) == ("t", 2, "a")
    assert counted.id not in ("a", "b", "last")
    assert repeats.over(None) == []


def test_another_caller_address_thing_or_tenant_is_another_denial() -> None:
    repeats = Repeats()
    kinds = [{}, {"actor": "eve"}, {"remote": "192.0.2.1"}, {"resource_id": "1"}, {"action": "key.list"}]
    first = [repeats.take("t", made(f"{number}", outcome="denied", **kind))[0] for number, kind in enumerate(kinds)]
    assert first == ["0", "1", "2", "3", "4"]
    assert repeats.take("u", made("5", outcome="denied"))[0] == "5"
    assert repeats.over(None) == []


def test_after_the_window_the_next_one_stands_for_itself_again_and_the_count_goes_before_it() -> None:
    repeats = Repeats()
    repeats.take("t", made("a", outcome="denied"))
    repeats.take("t", made("b", outcome="denied"))
    first, [(_, counted)] = repeats.take("t", made("c", outcome="denied", time=NOON + WINDOW))
    assert (first, counted.count, counted.first) == ("c", 1, "a")


def test_so_many_are_told_apart_and_no_count_is_lost() -> None:
    repeats = Repeats()
    repeats.take("t", made("a", outcome="denied"))
    repeats.take("t", made("b", outcome="denied"))
    gone = [counted for number in range(KNOCKERS) for counted in repeats.take("t", made("x", outcome="denied", remote=str(number)))[1]]
    assert [counted.count for _, counted in gone] == [1]
