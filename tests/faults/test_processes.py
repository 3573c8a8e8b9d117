"""Processes end, stand still, and come and go, at random moments and at the worst ones."""

import signal
from functools import partial

import pytest

from tests.faults.client import READS, WRITES
from tests.faults.cluster import ALTERED, Process, until
from tests.faults.conftest import PARTITIONS, Trial, rounds

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
FAILPOINTS = (
    ("worker.decided:20", "worker.answered:5"),
    ("worker.appended:20", "worker.snapshot:2"),
    ("projector.before_commit:3", "projector.after_commit:3"),
)
"""Of two workers and a projector."""


@rounds(short=1)
async def test_killed_at_random_moments(trial: Trial, rounds: int) -> None:
    cluster = trial.cluster
    async with trial.load() as load:
        for _ in range(rounds):
            victims = [(cluster.workers[0], WRITES), (cluster.workers[1], WRITES), (cluster.projector, READS), (cluster.gateway, WRITES)]
            trial.random.shuffle(victims)
            for victim, felt_by in victims:
                await load.goes_on(trial.random.randrange(20, 120))
                fault = trial.journal.fault(f"SIGKILL {victim.role}", felt_by)
                victim.kill()
                if trial.random.random() < 0.7:  # else the next one comes while this one is felt
                    await load.recovers(fault, PARTITIONS)


@rounds(short=1)
async def test_killed_at_each_failpoint(trial: Trial, rounds: int) -> None:
    processes = [*trial.cluster.workers, trial.cluster.projector]

    def ended(process: Process) -> None:
        trial.journal.fault(f"failpoint of a {process.role}", READS if process.role == "projector" else WRITES)

    async with trial.load() as load:
        for _ in range(rounds):
            # given lives that end at these places, one after the other
            for process, names in zip(processes, FAILPOINTS, strict=True):
                await process.destroy()
                process.keep([{"SOMA_FAILPOINT": name} for name in names], partial(ended, process))
            # then each of them is reached, and the next life goes on
            await until(lambda: all(len(process.endings) >= 2 for process in processes), "each failpoint is reached")
            assert {ending for process in processes for ending in process.endings} == {-signal.SIGKILL}
            await load.recovers(trial.journal.faults[-1], PARTITIONS)


@rounds(short=1)
@pytest.mark.parametrize("decider", ["the same", "contrary"])
async def test_a_worker_that_was_frozen_past_its_session_writes_again(trial: Trial, rounds: int, decider: str) -> None:
    zombie, successor = trial.cluster.workers
    for number in range(rounds):
        await trial.cluster.settle()
        # given a worker that stands still when it has decided and not yet written (later also: when it has written)
        place = trial.random.choice(("worker.decided", "worker.appended", "worker.answered")) if number else "worker.decided"
        await zombie.destroy()
        await zombie.start(module=ALTERED, SOMA_FREEZE_AT=f"{place}:{trial.random.randrange(5, 50)}", SOMA_DECIDER=decider)
        async with trial.load() as load:
            await zombie.frozen()
            fault = trial.journal.fault("SIGSTOP")
            # and another that owns everything now, and has gone on
            await until(lambda: len(successor.owned()) == PARTITIONS, "the successor owns everything")
            await load.recovers(fault, PARTITIONS)
            # when the first one wakes, and writes what it had decided
            zombie.send(signal.SIGCONT)
            await load.goes_on(100)
        # then everybody passed that over
        assert trial.report and (trial.report.void > 0 or place != "worker.decided"), f"round {number}: nobody wrote a second time"


@rounds(short=1)
async def test_workers_come_and_go(trial: Trial, rounds: int) -> None:
    cluster = trial.cluster
    await cluster.settle(workers=1)
    async with trial.load() as load:
        for _ in range(rounds):
            for workers in (2, 1):
                fault = trial.journal.fault(f"{workers} workers")
                await cluster.settle(workers)
                await load.recovers(fault, PARTITIONS)
