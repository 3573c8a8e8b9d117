"""How long it takes until another worker goes on, where the log is long: minutes of filling it, so only under `make faults`."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from ops import kafka
from ops.settings import Settings
from projections.progress import PartitionProgress
from projections.rebuild import Watcher, rebuild
from projections.session import EVENTS
from schemas.ids import new_id
from schemas.registry import Registry
from schemas.types.session import SessionEvent, StartSession
from streams.session import SESSION
from tests.faults.cluster import Cluster, until
from tests.faults.conftest import PARTITIONS, ROUNDS, Trial
from tests.history import History, produce

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.faults, pytest.mark.timeout(1800)]
SESSIONS = 100_000
YEARS = 10 * 366 * 86_400


@pytest.fixture(scope="module")
def cluster(cluster: Cluster) -> Cluster:
    """The platform, not started yet: its log has SESSIONS sessions of four records each, and its read model was made from it."""
    with ProcessPoolExecutor(2, get_context("spawn")) as cores:
        list(cores.map(partial(fill, cluster.settings), range(PARTITIONS)))
    with PartitionProgress("copying") as progress:
        rebuild(cluster.settings, Watcher(progress.begin, progress.step, progress.phase))
    return cluster


def fill(settings: Settings, partition: int) -> None:
    """One partition's share of the sessions: started, asked and answered, and idle for years to come."""
    codec = Registry(kafka.registry(settings)).codec(EVENTS, SessionEvent)
    history = History(codec, partition)
    for _ in range(SESSIONS // PARTITIONS):
        id = new_id(partition)
        history.send(id, StartSession(model="echo", input="hello", metadata={}, reply_seconds=60, idle_seconds=YEARS))
        history.reply(id, "echo: hello")
    produce(kafka.bootstrap(settings), history.take(), partition)


async def test_takeover_with_many_sessions_in_the_log(trial: Trial) -> None:
    cluster, share = trial.cluster, SESSIONS // PARTITIONS
    async with trial.load() as load:
        await until(lambda: min(trial.audit.ends(SESSION.snapshots).values()) > share, "snapshots are written")
        for number in range(ROUNDS):
            # given two workers that share the partitions, and have resumed
            await cluster.settle()
            await load.recovers(trial.journal.fault("both workers own half"), PARTITIONS)
            # when one of them dies
            fault = trial.journal.fault("takeover")
            cluster.workers[number % 2].kill()
            # then the other one goes on where it was
            await load.recovers(fault, PARTITIONS)
    assert len(trial.journal.recoveries()["takeover"]) == ROUNDS
