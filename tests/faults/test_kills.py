"""SIGKILL of each process at random moments."""

import pytest

from tests.faults.client import READS, WRITES
from tests.faults.conftest import Trial, rounds

pytestmark = pytest.mark.asyncio(loop_scope="module")


@rounds(short=1)
async def test_killed_at_random_moments(trial: Trial, rounds: int) -> None:
    cluster = trial.cluster
    async with trial.load() as load:
        for _ in range(rounds):
            victims = [(cluster.workers[0], WRITES), (cluster.workers[1], WRITES), (cluster.projector, READS), (cluster.gateway, WRITES)]
            trial.random.shuffle(victims)
            for victim, felt_by in victims:
                await load.goes_on(trial.random.randrange(20, 120))
                trial.journal.fault(f"SIGKILL {victim.role}", felt_by)
                victim.kill()
        await load.goes_on(50)
