"""Compares what callers were told with a full read of the log, and says what is wrong with either."""

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

from sqlalchemy import text

from ops import kafka
from ops.log import Log
from ops.settings import Settings
from projections import database, store
from projections.applied import Applied
from projections.session import EVENTS
from projections.verify import Check, verify_partition
from schemas.codec import Unreadable
from schemas.registry import Registry
from schemas.types.session import SessionEvent
from streams.session import SESSION
from tests.faults.client import Journal, Operation
from tests.faults.record import Record

SETTLED_SECONDS = 60.0
QUIET_SECONDS = 0.2


@dataclass
class Report:
    """What a trial found: the lists name what is wrong, and have to be empty.

    `gave_up`: how often a process ended itself; `failed`: turns that their deadline ended, as a long outage makes them.
    """

    name: str
    journal: Journal
    void: int = 0
    gave_up: int = 0
    failed: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def wrong(self) -> dict[str, list[str]]:
        lists = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: found[:10] for name, found in lists.items() if isinstance(found, list) and found}

    def line(self) -> str:
        """All of it in one line. Recovery is what Journal.recoveries says."""
        operations, faults = self.journal.operations, self.journal.faults
        recoveries, delays = self.journal.recoveries(), [each.answered - each.begun for each in operations if each.settled]
        recovered = "; ".join(
            f"{name} ×{len(took)} {quantile(took, 0.5):.1f}/{quantile(took, 0.99):.1f} s" for name, took in recoveries.items()
        )
        acknowledged, unknown = sum(each.acknowledged for each in operations), sum(not each.settled for each in operations)
        return (
            f"{self.name}: seed {self.journal.seed}, {len(operations)} operations ({acknowledged} writes acknowledged, {unknown} unknown), "
            f"{len(faults)} faults, {self.gave_up} processes gave up; "
            f"lost {len(self.lost)}, twice {len(self.twice)}, gaps {len(self.gaps)}, torn {len(self.torn)}, "
            f"denied {len(self.denied)}, out of order {len(self.disorder)}, unanswered {len(self.unanswered)}, "
            f"differences {len(self.differences)}, void {self.void}, failed turns {self.failed}; "
            f"longest operation {max(delays, default=0):.1f} s; recovery p50/p99: {recovered}"
        )


class Audit:
    """Reads the log into a record, bit by bit. It blocks."""

    def __init__(self, settings: Settings) -> None:
        self.log = Log(kafka.confluent(settings))
        self.record = Record(self.log.epoch(SESSION.commands))
        self._registry = Registry(kafka.registry(settings))
        self._codec = self._registry.codec(EVENTS, SessionEvent)

    def read_on(self) -> None:
        """Take what is new. Raises ChainBroken."""
        for number, end in self.ends(EVENTS).items():
            for offset, value in self.log.values(EVENTS, number, self.record.chain(number).head.next_offset, end):
                self.record.take(number, offset, value, self._event(value))

    def behind(self) -> list[str]:
        """Commands without a record."""
        ends = self.ends(SESSION.commands).items()
        return [f"{number}:{offset}" for number, end in ends for offset in range(end) if offset not in self.record.chain(number).applied]

    def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a topic ends."""
        return {number: self.log.bounds(topic, number)[1] for number in range(self.log.partitions(topic))}

    def _event(self, value: bytes) -> SessionEvent | None:
        try:
            return self._registry.decode(self._codec, value)
        except Unreadable:
            return None


async def judge(name: str, settings: Settings, audit: Audit, journal: Journal) -> Report:
    """The report, once the platform has come to rest."""
    await _at_rest(audit)
    report = Report(name, journal)
    compare(journal, audit.record, report)
    report.gaps = await asyncio.to_thread(audit.behind)
    report.differences = await _differences(settings, audit.record)
    return report


def compare(journal: Journal, record: Record, report: Report) -> None:
    """Whether the record is whole in itself, and bears out what callers were told."""
    report.torn = [*record.torn, *(f"partition {chain.number} ends within a command" for chain in record.chains.values() if chain.open)]
    report.unanswered = list(record.unanswered)
    report.twice = [f"{id}: {outcomes}" for id, outcomes in record.outcomes.items() if len(outcomes) > 1]
    report.twice += [
        f"{c.number}:{offset} is recorded {n} times" for c in record.chains.values() for offset, n in c.applied.items() if n > 1
    ]
    report.denied += record.odd
    for operation in journal.operations:
        _compare(operation, record, report)
        if operation.kind == "start" and operation.session:
            said = record.said[operation.session]
            numbers = [int(mark.rpartition("/")[2]) for mark in said]
            if numbers != sorted(set(numbers)):
                report.disorder.append(f"{operation.session}: {said}")


def _compare(operation: Operation, record: Record, report: Report) -> None:
    """Whether the log bears out what a caller was told."""
    what = f"{operation.kind} {operation.mark} ({operation.status}, {operation.session})"
    if operation.wrong:
        report.denied.append(f"{what}: {operation.wrong}")
    if operation.kind == "read":
        return
    outcome = next(iter(record.outcomes.get(operation.command, ())), None)
    if outcome is None:
        if operation.acknowledged:
            report.lost.append(what)
        return
    if operation.done and (outcome.refused or outcome.session != operation.session):
        report.denied.append(f"{what} was confirmed, the log has {outcome}")
    if operation.refused and not outcome.refused:
        report.denied.append(f"{what} was refused, the log has {outcome}")
    if not (operation.sent or operation.acknowledged):
        report.denied.append(f"{what} was never sent, the log has {outcome}")
    if outcome.mark not in (None, operation.mark):
        report.denied.append(f"{what} has the outcome of another operation: {outcome}")


async def _at_rest(audit: Audit) -> None:
    """Until every command has its records and no session waits for a reply, or for as long as that may take."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < deadline:
        await asyncio.to_thread(audit.read_on)
        if not audit.record.unanswered and not await asyncio.to_thread(audit.behind):
            return
        await asyncio.sleep(QUIET_SECONDS)


async def _differences(settings: Settings, record: Record) -> list[str]:
    """Where the read model is not what the log says, after it had the time to come to the log's end."""
    async with Applied(database.url(settings)) as applied:
        behind = [
            f"partition {number} is not projected up to {chain.head.next_offset}"
            for number, chain in record.chains.items()
            if chain.head.next_offset and not await applied.event(EVENTS, number, chain.head.next_offset - 1, SETTLED_SECONDS)
        ]
    return behind + await asyncio.to_thread(lambda: list(_verify(settings)))


def _verify(settings: Settings) -> Iterator[str]:
    """`soma verify`, in this process: the short trials would spend longer on starting a process a core."""
    with database.engine(database.url(settings)) as engine, engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        snapshot = str(connection.scalar(text("SELECT pg_export_snapshot()")))
        held = store.positions_of(connection)
        for chain in held:
            for difference in verify_partition(Check(settings, snapshot, held), chain, lambda _: None).differences:
                yield str(difference)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed; NaN where there is none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else math.nan
