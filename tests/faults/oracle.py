"""Compares what callers were told with a full read of the log, and says what is wrong with either."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from sqlalchemy import text

from ops import kafka
from ops.log import Log
from ops.settings import Settings
from projections import database, store
from projections.applied import Applied
from projections.reading import EVENTS
from projections.verify import Check, verify_partition
from schemas.chain import Head
from schemas.codec import Unreadable
from schemas.ids import partition_of
from schemas.registry import Registry
from schemas.types.common import CommandsLost, Refused
from schemas.types.session import (
    MessagePosted,
    ReplyRecorded,
    ReplyRequested,
    SessionEvent,
    SessionStarted,
)
from streams.aggregate import NOT_REMEMBERED
from streams.session import SESSION
from tests.faults.client import Journal, Operation

SETTLED_SECONDS = 60.0
QUIET_SECONDS = 0.2


class Outcome(NamedTuple):
    """What one command led to."""

    place: str
    session: str
    refused: str | None
    mark: str | None


@dataclass
class Chain:
    """One partition of the record, read so far."""

    number: int
    head: Head = field(default_factory=Head)
    void: int = 0
    open: list[SessionEvent] = field(default_factory=list)
    applied: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """How often each command of the present epoch stands in the record."""


class Record:
    """All that the valid records say. `read_on` takes what is new; it blocks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.log = Log(kafka.confluent(settings))
        self._registry = Registry(kafka.registry(settings))
        self._codec = self._registry.codec(EVENTS, SessionEvent)
        self._epoch = self.log.epoch(SESSION.commands)
        self.chains: dict[int, Chain] = {}
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        self.said: dict[str, list[str]] = defaultdict(list)
        """Session → the marks of its messages, in order."""
        self.unanswered: dict[str, str] = {}
        """Session → what the model was asked."""
        self._asked = ""
        self.torn: list[str] = []
        self.odd: list[str] = []

    @property
    def void(self) -> int:
        return sum(chain.void for chain in self.chains.values())

    def read_on(self) -> None:
        """Raises ChainBroken."""
        for number in range(self.log.partitions(EVENTS)):
            chain = self.chains.setdefault(number, Chain(number))
            end = self.log.bounds(EVENTS, number)[1]
            for offset, value in self.log.values(EVENTS, number, chain.head.next_offset, end):
                self._take(chain, offset, value)

    def behind(self) -> list[str]:
        """Commands without a record."""
        missing = list[str]()
        for number in range(self.log.partitions(SESSION.commands)):
            low, end = self.log.bounds(SESSION.commands, number)
            missing += [f"{number}:{offset}" for offset in range(low, end) if offset not in self.chains[number].applied]
        return missing

    def _take(self, chain: Chain, offset: int, value: bytes) -> None:
        try:
            event = self._registry.decode(self._codec, value)
            chain.head, valid = chain.head.take(event.meta, value, offset)
        except Unreadable:
            chain.head, valid = chain.head.pass_unreadable(offset), False
        chain.void += not valid
        if valid:
            self._fold(chain, event, f"e{chain.number}-{offset}")

    def _fold(self, chain: Chain, event: SessionEvent, place: str) -> None:
        meta = event.meta
        if chain.open and (chain.open[-1].meta.command, chain.open[-1].meta.index + 1) != (meta.command, meta.index):
            self.torn.append(f"{place}: {chain.open[-1].meta.command_id} has {len(chain.open)} of {chain.open[-1].meta.count} records")
            chain.open.clear()
        elif not chain.open and meta.index:
            self.torn.append(f"{place}: {meta.command_id} begins with record {meta.index} of {meta.count}")
        chain.open.append(event)
        if meta.version and partition_of(meta.aggregate_id) != chain.number:
            self.odd.append(f"{place}: {meta.aggregate_id} does not live here")
        self._hear(event, place)
        if meta.index == meta.count - 1:
            self._outcome(chain, place)

    def _outcome(self, chain: Chain, place: str) -> None:
        """A command is recorded whole."""
        first, meta = chain.open[0].body, chain.open[0].meta
        if meta.command.epoch == self._epoch:
            lost = range(first.first_offset, first.last_offset + 1) if isinstance(first, CommandsLost) else (meta.command.offset,)
            for offset in lost:
                chain.applied[offset] += 1
        refused = first.code if isinstance(first, Refused) else None
        if refused not in NOT_REMEMBERED:
            marks = (_mark(event) for event in chain.open)
            self.outcomes[meta.command_id].append(Outcome(place, meta.aggregate_id, refused, next(filter(None, marks), None)))
        chain.open = []

    def _hear(self, event: SessionEvent, place: str) -> None:
        """The conversation: the echo must answer what was asked."""
        session = event.meta.aggregate_id
        match event.body:
            case MessagePosted(content=str(content)):
                self.said[session].append(content.partition(" ")[0])
                self._asked = content
            case ReplyRequested():
                self.unanswered[session] = self._asked
            case ReplyRecorded(content=content):
                asked = self.unanswered.pop(session, None)
                if content != f"echo: {asked}":
                    self.odd.append(f"{place}: {str(content)[:80]!r} answers {str(asked)[:80]!r}")
            case Refused():
                pass
            case _:
                self.unanswered.pop(session, None)


@dataclass
class Report:
    """What a trial found: the lists name what is wrong, and have to be empty. `gave_up`: how often a process ended itself."""

    name: str
    journal: Journal
    void: int = 0
    gave_up: int = 0
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
            f"differences {len(self.differences)}, void {self.void}; "
            f"longest operation {max(delays, default=0):.1f} s; recovery p50/p99: {recovered}"
        )


async def judge(name: str, settings: Settings, record: Record, journal: Journal) -> Report:
    """The report, once the platform has come to rest."""
    await _at_rest(record)
    report = Report(name, journal)
    report.gaps = record.behind()
    report.torn = [*record.torn, *(f"partition {chain.number} ends within a command" for chain in record.chains.values() if chain.open)]
    report.unanswered = list(record.unanswered)
    report.twice = [f"{id}: {outcomes}" for id, outcomes in record.outcomes.items() if len(outcomes) > 1]
    report.twice += [
        f"{c.number}:{offset} is recorded {n} times" for c in record.chains.values() for offset, n in c.applied.items() if n > 1
    ]
    for operation in journal.operations:
        _compare(operation, record, report)
    report.denied += record.odd
    for operation in journal.operations:
        if operation.kind == "start" and operation.session:
            said = record.said[operation.session]
            numbers = [int(mark.rpartition("/")[2]) for mark in said]
            if numbers != sorted(set(numbers)):
                report.disorder.append(f"{operation.session}: {said}")
    report.differences = await _differences(settings, record)
    return report


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


async def _at_rest(record: Record) -> None:
    """Until every command has its records and no session waits for a reply, or for as long as that may take."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < deadline:
        await asyncio.to_thread(record.read_on)
        if not record.unanswered and not await asyncio.to_thread(record.behind):
            return
        await asyncio.sleep(QUIET_SECONDS)


async def _differences(settings: Settings, record: Record) -> list[str]:
    """Where the read model is not what the log says, after it had the time to come to the log's end."""
    async with Applied(database.url(settings)) as applied:
        behind = [
            f"partition {number} is not projected up to {chain.head.next_offset}"
            for number, chain in record.chains.items()
            if chain.head.next_offset and not await applied.event(number, chain.head.next_offset - 1, SETTLED_SECONDS)
        ]
    return behind + await asyncio.to_thread(lambda: list(_verify(settings)))


def _verify(settings: Settings) -> Iterator[str]:
    """`soma verify`, in this process: the short trials would spend longer on starting a process a core."""
    with database.engine(database.url(settings)) as engine, engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        snapshot = str(connection.scalar(text("SELECT pg_export_snapshot()")))
        held = store.positions_of(connection)
        for partition in held:
            for difference in verify_partition(Check(settings, snapshot, held), partition, lambda _: None).differences:
                yield str(difference)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed; NaN where there is none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else math.nan


def _mark(event: SessionEvent) -> str | None:
    match event.body:
        case SessionStarted(metadata=metadata):
            return metadata.get("mark")
        case MessagePosted(content=str(content)):
            return content.partition(" ")[0]
        case _:
            return None
