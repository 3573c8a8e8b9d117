"""One platform a module, whose processes the trials of that module kill, freeze and multiply."""

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ops import kafka, topics
from ops.settings import Settings
from projections import database
from schemas.registry import Registry
from tests.faults.client import Journal, Load
from tests.faults.cluster import Cluster
from tests.faults.oracle import Record, Report, judge

PARTITIONS = 4
LINES = pytest.StashKey[list[str]]()


class Trial:
    """A platform, callers, faults at random moments from one seed, and the verdict."""

    def __init__(self, name: str, cluster: Cluster, record: Record, journal: Journal) -> None:
        self.name, self.cluster, self.record, self.journal = name, cluster, record, journal
        self.settings = cluster.settings
        self.random = random.Random(journal.seed)

    @asynccontextmanager
    async def load(self, *, callers: int = 20, text: str = "") -> AsyncIterator[Load]:
        """Callers, while the block runs; then the log must bear out what they were told."""
        before = self.record.void
        async with Load(self.cluster.url, self.journal, callers=callers, text=text).running() as load:
            await load.goes_on(callers)
            yield load
        self.report = await judge(self.name, self.settings, self.record, self.journal, before)
        print(self.report.line())
        assert not self.report.wrong(), self.report.line()

    report: Report


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(module_platform: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    settings = module_platform.model_copy(update={"kafka_cfg_num_partitions": PARTITIONS, "gateway_wait_seconds": 6.0})
    registry = Registry(kafka.registry(settings))
    registry.register()
    list(topics.apply(settings, registry))
    database.migrate(database.url(settings))
    async with Cluster(settings, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def record(cluster: Cluster) -> Record:
    return Record(cluster.settings)


@pytest_asyncio.fixture(loop_scope="module")
async def trial(request: pytest.FixtureRequest, cluster: Cluster, record: Record) -> AsyncIterator[Trial]:
    """Two workers, a projector and a gateway that are well, and a log that was read to its end."""
    await cluster.settle()
    record.read_on()
    seed = os.environ.get("SOMA_FAULT_SEED") or f"{random.SystemRandom().randrange(1_000_000)}"
    trial = Trial(request.node.name, cluster, record, Journal(f"{seed}-{len(record.outcomes)}"))
    yield trial
    if hasattr(trial, "report"):
        request.node.user_properties.append(("faults", trial.report.line()))


def rounds(short: int, long: int = 20) -> Any:
    """How often a trial does its faults: few times in every run of the tests, SOMA_FAULT_ROUNDS times under `make faults`."""
    many = int(os.environ.get("SOMA_FAULT_ROUNDS", str(long)))
    marks = [pytest.mark.faults, pytest.mark.timeout(60 + 60 * many)]
    return pytest.mark.parametrize("rounds", [pytest.param(short, id="short"), pytest.param(many, id="long", marks=marks)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure shows what the processes said."""
    report: Any = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections += [(f"log of {name}", text) for name, text in cluster.logs().items()]
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was found, a line a trial."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    lines = [text for report in reports if report.when == "teardown" or report.when == "call" for name, text in report.user_properties if name == "faults"]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
