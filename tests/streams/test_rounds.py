"""Appends of a process go in rounds, so that under load each takes more with it."""

import asyncio

from streams.services import Rounds


async def test_who_comes_while_a_round_is_under_way_waits_for_its_end_and_then_goes_with_the_others() -> None:
    rounds, ends, log = Rounds(), [asyncio.Event() for _ in range(4)], list[str]()

    async def append(number: int) -> None:
        async with rounds:
            log.append(f"begin {number}")
            await ends[number].wait()
        log.append(f"end {number}")

    # given a partition that appends, alone: it did not wait
    tasks = [asyncio.create_task(append(0))]
    await asyncio.sleep(0)
    assert log == ["begin 0"]
    # when two more come meanwhile
    tasks += [asyncio.create_task(append(number)) for number in (1, 2)]
    await asyncio.sleep(0.01)
    assert log == ["begin 0"]
    # then both begin at its end
    ends[0].set()
    await asyncio.sleep(0.01)
    assert log == ["begin 0", "end 0", "begin 1", "begin 2"]
    # and the next one waits for the slower of them
    tasks.append(asyncio.create_task(append(3)))
    ends[1].set()
    await asyncio.sleep(0.01)
    assert log[-1] == "end 1"
    ends[2].set()
    ends[3].set()
    await asyncio.gather(*tasks)
    assert log[-3:] == ["end 2", "begin 3", "end 3"]


async def test_one_that_fails_ends_its_round() -> None:
    rounds = Rounds()

    async def fail() -> None:
        async with rounds:
            raise ValueError

    await asyncio.gather(fail(), return_exceptions=True)
    async with asyncio.timeout(1), rounds:
        pass
