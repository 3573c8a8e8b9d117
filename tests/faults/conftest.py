"""One platform a module, whose processes the trials of that module kill, freeze and multiply."""

import os
import random
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from ops import kafka, topics
from ops.settings import Settings
from projections import database
from schemas.registry import Registry
from tests.faults.client import Journal, Load
from tests.faults.cluster import Cluster
from tests.faults.oracle import Audit, Report, judge

PARTITIONS = 4
ROUNDS = int(os.environ.get("SOMA_FAULT_ROUNDS", "10"))
SEED = os.environ.get("SOMA_FAULT_SEED") or str(random.SystemRandom().randrange(1_000_000))


class Trial:
    """A platform, callers, faults at random moments from one seed, and the verdict."""

    def __init__(self, name: str, cluster: Cluster, audit: Audit, journal: Journal, say: Callable[[str, object], None]) -> None:
        self.name, self.cluster, self.audit, self.journal, self.say = name, cluster, audit, journal, say
        self.settings = cluster.settings
        self.random = random.Random(journal.seed)
        self.report: Report | None = None

    @asynccontextmanager
    async def load(self, *, callers: int = 20, text: str = "", warm: bool = True) -> AsyncIterator[Load]:
        """Callers, while the block runs, which begins once they are well under way; then the log must bear out what they were told."""
        before = self._counts()
        async with Load(self.cluster.url, self.journal, callers=callers, text=text).running() as load:
            if warm:
                await load.goes_on(callers)
            yield load
        self.report = await judge(self.name, self.settings, self.audit, self.journal)
        counted = (now - then for now, then in zip(self._counts(), before, strict=True))
        self.report.void, self.report.failed, self.report.gave_up = counted
        self.say("faults", self.report.line())
        assert not self.report.wrong(), self.report.line()

    def _counts(self) -> tuple[int, int, int]:
        return self.audit.record.void, len(self.audit.record.failed), self.cluster.gave_up()


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """What the processes of a module's platform see besides their settings."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(module_platform: Settings, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    settings = module_platform.model_copy(
        update={"kafka_cfg_num_partitions": PARTITIONS, "gateway_wait_seconds": 6.0, "soma_tool_private_hosts": ("127.0.0.1",)}
    )
    registry = Registry(kafka.registry(settings))
    registry.register()
    list(topics.apply(settings, registry))
    database.migrate(database.url(settings))
    async with Cluster(settings, tmp_path_factory.mktemp("cluster"), **variables) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def audit(cluster: Cluster) -> Audit:
    return Audit(cluster.settings)


@pytest_asyncio.fixture(loop_scope="module")
async def trial(request: pytest.FixtureRequest, cluster: Cluster, audit: Audit, record_property: Callable[[str, object], None]) -> Trial:
    """Two workers, a projector and a gateway that are well, and a log that was read to its end."""
    await cluster.settle()
    audit.read_on()
    cluster.trials += 1
    return Trial(request.node.name, cluster, audit, Journal(f"{SEED}.{cluster.trials}"), record_property)


def rounds(short: int, long: int = ROUNDS) -> pytest.MarkDecorator:
    """How often a trial does its faults: few times in every run of the tests, more often under `make faults`."""
    marks = [pytest.mark.faults, pytest.mark.timeout(240 + 60 * long)]
    both: pytest.MarkDecorator = pytest.mark.parametrize(
        "rounds", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=marks)]
    )
    return both


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the processes said."""
    report: pytest.TestReport = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections += [(f"log of {name}", text) for name, text in cluster.logs().items()]
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was found, a line a trial."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    lines = [text for report in reports for name, text in report.user_properties if name == "faults"]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
