"""Runs one partition of any noun: resume from the log, decide what waits, append it as one batch, let it go (rules 7 to 9)."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from msgspec.structs import replace

from ops import failpoints, metrics
from ops.log import Record
from ops.telemetry import span
from schemas.chain import IN_DOUBT, ChainBroken
from schemas.codec import Unreadable, trace_of
from schemas.types.common import Position, Refused
from streams.noun import Noun
from streams.partition import Incoming, Outgoing, Partition
from streams.services import Services
from streams.snapshots import Snapshots, load

log = logging.getLogger("soma.worker")
GROUP_BYTES = 16 << 10
"""A group is closed once it is this large. With one command of the largest size on top it stays below `max.message.bytes`."""
WAITING = 4_000
"""Deliveries that may wait in one partition before the next one has to."""
FETCH = 4_000
"""Commands that are fetched at once where no delivery brought them."""
SETTLE_EVERY = 10_000
DEADLINES = 100
"""Passed deadlines that a tick turns into commands at most: what callers ask goes between."""

Ack = Callable[[], object]


class Processor:
    """One assigned partition. `deliver` commands, `run` until cancelled; `pause` before the partition may go to another worker."""

    def __init__(self, noun: Noun, number: int, services: Services) -> None:
        self.noun, self.number, self._services = noun, number, services
        self._begin()
        self.epoch = ""
        self._inbox: deque[tuple[Record, Ack]] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._due: dict[str, datetime] = {}
        self._sent: set[str] = set()
        self._known_end = 0
        self._paused = self._begun = False
        self._stepping = asyncio.Lock()

    def _begin(self) -> None:
        self.partition = Partition(self.noun, self.number, self._services.events, self._services.origin)
        self.snapshots = Snapshots(self.noun, self.partition, self._services.side)

    async def deliver(self, record: Record, ack: Ack) -> None:
        """Take a record of the commands topic; `ack` is called once what it leads to is in the log. Waits while too many wait."""
        while len(self._inbox) >= WAITING and not self._paused:
            self._room.clear()
            await self._room.wait()
        if self._paused:  # the log says where to resume, not Kafka's committed offset
            ack()
            return
        self._inbox.append((record, ack))
        self._arrived.set()

    async def pause(self) -> None:
        """Finish the append that runs, or give up resuming; then hold still and let go of every delivery."""
        self._paused = True
        self._room.set()
        async with self._stepping:
            self._let_go(len(self._inbox))

    async def run(self) -> None:
        """Resume, then process until cancelled. Raises Halt, ChainBroken or LogUnavailable when it must not go on."""
        self._paused = False
        async with self._stepping:
            started = time.perf_counter()
            await self._services.know(self.noun, self.number)
            await self._resume()
            metrics.resume_seconds.observe(time.perf_counter() - started)
            if self._begun:
                log.info("%s/%d: resumed in %.1f s", self.noun.events, self.number, time.perf_counter() - started)
        while True:
            await self._arrived.wait()
            async with self._stepping:
                self._arrived.clear()
                while not self._paused and (self._inbox or self._behind()):
                    async with self._services.rounds:
                        await self._step()

    async def tick(self) -> None:
        """Once a second: write snapshots, and turn passed deadlines into commands. Raises KafkaError."""
        if not self._begun:
            return
        await self.snapshots.save()
        now = datetime.now(UTC)
        passed = islice((id for id, due in self._due.items() if due <= now and id not in self._sent), DEADLINES)
        await asyncio.gather(*map(self._end, list(passed)))

    async def _end(self, id: str) -> None:
        """Say that the aggregate's deadline has passed."""
        aggregate = self.partition.peek(id)
        command_id, body = self.noun.when_due(aggregate.state, id)
        await self._services.send(self.noun, self.number, id, command_id, aggregate.tenant or "", body, {})
        self._sent.add(id)

    # Resuming (rule 8)

    async def _resume(self) -> None:
        self.epoch = await asyncio.to_thread(self._services.log.epoch, self.noun.commands)
        if self._begun:
            await self._fold()
        else:
            await self._begin_again()
        self._known_end = (await asyncio.to_thread(self._services.log.bounds, self.noun.commands, self.number))[1]
        self._arrived.set()

    async def _begin_again(self) -> None:
        """From the snapshot if it accounts for the whole record, else from the beginning of the log."""
        if await asyncio.to_thread(load, self._services.log, self.noun, self.partition):
            self.snapshots.changed.clear()
            await self._fold()
            if not self._paused and not await asyncio.to_thread(self.partition.whole):
                log.warning("%s/%d: the snapshot does not account for the record: folding all of it", self.noun.events, self.number)
                self._begin()
        await self._fold()
        if not self._paused:
            self._begun = True
            self._watch(self.partition.rows)

    async def _fold(self) -> None:
        """Take what the events topic holds beyond this partition's head. Raises ChainBroken when its end cannot be read."""
        changed = await asyncio.to_thread(self._fold_blocking)
        self.snapshots.changed |= changed
        if self._paused:  # given up, for another worker waits: the next assignment begins again
            self._begun = False
            return
        if self.partition.head.doubt is not None:
            raise ChainBroken(f"{self.noun.events}/{self.number}: offset {self.partition.head.doubt} cannot be read. {IN_DOUBT}")
        self._watch(changed)

    def _fold_blocking(self) -> set[str]:
        partition, changed = self.partition, set[str]()
        low, end = self._services.log.bounds(self.noun.events, self.number)
        start = partition.head.next_offset
        if start > end or (start == 0 and low > 0):
            raise ChainBroken(f"{self.noun.events}/{self.number} holds {low} to {end}, but {start} is next: records are gone.")
        for count, record in enumerate(self._services.log.read(self.noun.events, self.number, start, end)):
            if self._paused:
                break
            self._fold_one(record)
            if count % SETTLE_EVERY == 0:
                changed.update(partition.settle())
        return changed.union(partition.settle())

    def _fold_one(self, record: Record) -> None:
        try:
            event = self._services.registry.decode(self._services.events, record.value)
        except Unreadable:
            self.partition.head = self.partition.head.pass_unreadable(record.offset)
            return
        if not self.partition.take(event, record.value or b"", record.offset):
            metrics.void_records.labels("worker").inc()

    def _behind(self) -> bool:
        """Whether commands that were there at the assignment are still to be decided."""
        return self.partition.expected(self.epoch) < self._known_end

    async def _fetch(self, start: int, end: int) -> None:
        """Put commands before what waits already: those that no delivery brought. A hole made by retention is recorded."""
        low, _ = await asyncio.to_thread(self._services.log.bounds, self.noun.commands, self.number)
        if low > start:
            await self._record_lost(start, min(low, end) - 1)
            return
        end = min(end, start + FETCH)
        missing = await asyncio.to_thread(lambda: list(self._services.log.read(self.noun.commands, self.number, start, end)))
        self._inbox.extendleft((record, _nobody) for record in reversed(missing))

    async def _record_lost(self, first: int, last: int) -> None:
        log.error("%s/%d: commands %d to %d were removed before they were read", self.noun.commands, self.number, first, last)
        metrics.commands_lost.labels(self.noun.commands).inc(last - first + 1)
        ahead = self.partition.ahead()
        position = Position(epoch=self.epoch, partition=self.number, offset=last)
        await self._append(ahead, ahead.lost(first, position, datetime.now(UTC)))

    # Deciding and appending (rule 7)

    async def _step(self) -> None:
        """One group: decide what waits, append it, and only then let it go."""
        ahead, records, size, count = self.partition.ahead(), list[Outgoing](), 0, 0
        for record, _ in tuple(self._inbox):  # more may come while one is looked at
            expected = ahead.expected(self.epoch)
            if record.offset > expected or size >= GROUP_BYTES:
                break
            count += 1
            if record.offset < expected:
                metrics.redelivered.labels(self.noun.commands).inc()
                continue
            with span(f"decide {self.noun.name}", trace_of(record.headers)) as trace:
                decided = ahead.decide(await self._incoming(record, trace))
            records += decided
            size += sum(outgoing.size for outgoing in decided)
        if not count:
            end = self._inbox[0][0].offset if self._inbox else self._known_end
            await self._fetch(self.partition.expected(self.epoch), end)
        failpoints.reach("worker.decided")
        if not records or await self._append(ahead, records):
            self._let_go(count)  # else what was decided is dropped, and the same commands are looked at again

    async def _incoming(self, record: Record, trace: dict[str, str]) -> Incoming:
        position = Position(epoch=self.epoch, partition=self.number, offset=record.offset)
        time = datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC)
        incoming = Incoming(position, None, record.key or b"", len(record.value or b""), time, trace)
        try:
            command = await self._services.registry.adecode(self._services.commands, record.value)
        except Unreadable as error:
            await self._services.dead_letter(self.noun, record, str(error))
            return replace(incoming, unreadable=str(error)[:500])
        if self._services.keys.prove(self.noun.commands, command, record.value or b""):
            return replace(incoming, command=command)
        log.warning("%s/%d/%d: a command that nobody here signed", self.noun.commands, self.number, record.offset)
        return replace(incoming, unproven=True)

    async def _append(self, ahead: Partition, records: list[Outgoing]) -> bool:
        """Store all the records or none. False: another writer was there first, and its records are folded in now."""
        started = time.perf_counter()
        offset = await self._services.append(self.noun, self.number, records)
        metrics.append_seconds.observe(time.perf_counter() - started)
        metrics.group_records.observe(len(records))
        failpoints.reach("worker.appended")
        if offset != self.partition.head.next_offset:
            log.warning("%s/%d: another writer appended first: folding again", self.noun.events, self.number)
            metrics.second_writers.labels(self.noun.events).inc()
            await self._fold()
            return False
        changed = self.partition.adopt(ahead)
        self.snapshots.changed.update(changed)
        for record in records:
            _count(self.noun, record.event)
            self._services.effects.seen(record.event)
        self._watch(changed, {record.event.meta.aggregate_id: trace_of(record.headers) for record in records})
        return True

    def _watch(self, ids: Iterable[str], traces: dict[str, dict[str, str]] | None = None) -> None:
        """Note what these aggregates wait for: an effect, a deadline (rule 11)."""
        for id in ids:
            aggregate = self.partition.peek(id)
            effect, due = self.noun.outstanding(aggregate.state), self.noun.due(aggregate.state)
            self._services.effects.want(self.number, id, effect, aggregate, (traces or {}).get(id, {}))
            self._sent.discard(id)
            if due is None:
                self._due.pop(id, None)
            else:
                self._due[id] = due

    def _let_go(self, count: int) -> None:
        for _ in range(count):
            self._inbox.popleft()[1]()
        self._room.set()


def _nobody() -> None:
    """Acknowledges a command that no delivery brought."""


def _count(noun: Noun, event: Any) -> None:
    metrics.events.labels(type(event.body).__name__).inc()
    if event.meta.index == 0:
        metrics.commands.labels(noun.commands).inc()
    if isinstance(event.body, Refused):
        metrics.refusals.labels(event.body.code).inc()
