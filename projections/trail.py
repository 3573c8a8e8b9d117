"""The audit read from the log itself: `soma audit verify` proves that nothing of it is missing, changed or reordered, and `export` writes
it out. The chain proves it for each partition, the decisions' own numbers for each tenant, and the read model remembers how long it was.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from ops.settings import Settings
from projections import database
from projections.audit import EVENTS, PARTITIONS, Entry, entries
from projections.proof import Walk
from projections.reading import Chain, Progress, Reading
from projections.source import Source
from projections.tables import positions
from schemas.chain import Head
from schemas.types.audit import AuditEvent, DecisionsNoted


class Finding(NamedTuple):
    """What is wrong, and where: an offset of a partition of the audit's topic, and whose decisions those are, as far as that is known."""

    partition: int
    offset: int
    tenant: str | None
    problem: str


class Verified(NamedTuple):
    """How many decisions each tenant has on record, as far as the record is whole, and what is wrong."""

    decisions: dict[str, int]
    findings: list[Finding]


class Tenants:
    """Goes along the valid records of one partition: each tenant's versions and decisions are counted from 1 without a gap."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._versions: dict[str, int] = {}
        self.decisions: dict[str, int] = {}

    def take(self, event: AuditEvent, offset: int) -> Iterator[Finding]:
        """What is wrong with a record. One that changes no audit says nothing."""
        meta, body = event.meta, event.body
        if not isinstance(body, DecisionsNoted):
            return
        version, first = self._versions.get(meta.tenant, 0) + 1, self.decisions.get(meta.tenant, 0) + 1
        if meta.version != version:
            yield Finding(self._partition, offset, meta.tenant, f"version {meta.version} came where {version} is next")
        if body.first != first:
            yield Finding(self._partition, offset, meta.tenant, f"decision {body.first} came where {first} is next")
        self._versions[meta.tenant] = meta.version or version
        self.decisions[meta.tenant] = body.first + len(body.decisions) - 1


def verify(settings: Settings) -> Verified:
    """Walk the whole topic. Raises LogUnavailable, NotRegistered."""
    source, verified = Source(settings), Verified({}, [])
    lengths = _lengths(settings)
    for chain, end in _chains(source):
        tenants = Tenants(chain.partition)
        verified.findings.extend(_walk(source, chain, end, tenants))
        if (length := lengths.get(chain.partition, 0)) > end:
            verified.findings.append(
                Finding(chain.partition, end, None, f"offsets {end} to {length - 1} are gone: the read model had them")
            )
        verified.decisions.update(tenants.decisions)
    return verified


def export(settings: Settings, tenant: str | None) -> Iterator[Entry]:
    """Every decision on record, of one tenant or of all, partition by partition in its order. Raises ChainBroken, LogUnavailable."""
    source = Source(settings)
    for chain, end in _chains(source):
        for taken in source.valid(Reading(chain, Progress()), end):
            if tenant in (None, taken.event.meta.tenant):
                yield from entries(taken.event, chain.partition, taken.offset)


class Later:
    """The decisions since a time, or from the place `begin` on, of all tenants: partition by partition, a stretch at a time.

    It begins in the middle of a chain: there a record is believed until its successor bears it out, or is believed in its place.
    """

    def __init__(self, source: Source, since: datetime, begin: tuple[int, int] | None) -> None:
        self._source, self._since = source, since
        self._partition = begin[0] if begin else 0
        self._offset = begin[1] if begin else None
        self._head, self._borne_out = Head(), False

    @property
    def place(self) -> tuple[int, int] | None:
        """Partition and offset to go on from; None at the end."""
        return None if self._partition >= PARTITIONS else (self._partition, self._offset or 0)

    def take(self, most: int) -> list[Entry]:
        """The next ones: `most` or, for a record is taken whole, a few more; none at the end. Raises LogUnavailable, ChainBroken."""
        found = list[Entry]()
        while self.place and len(found) < most:
            for record in self._records():
                found += [entry for entry in record if entry.decision.time >= self._since]
                if len(found) >= most:
                    return found
            self._partition, self._offset, self._borne_out = self._partition + 1, None, False
        return found

    def _records(self) -> Iterator[list[Entry]]:
        log, number = self._source.log, self._partition
        if self._offset is None:
            self._offset, self._head = log.since(EVENTS, number, int(self._since.timestamp() * 1000)), Head()
        for offset, value in log.values(EVENTS, number, self._offset, log.bounds(EVENTS, number)[1]):
            self._offset = offset + 1
            if (event := self._source.decode(EVENTS, value)) and self._valid(event, value, offset):
                yield entries(event, number, offset)

    def _valid(self, event: AuditEvent, value: bytes, offset: int) -> bool:
        head, valid = self._head.take(event.meta, value, offset)
        believed = not valid and not self._borne_out
        self._borne_out = self._borne_out or valid
        self._head = Head.after(event.meta, value, offset) if believed else head
        return valid or believed


def _chains(source: Source) -> list[tuple[Chain, int]]:
    return sorted((chain, end) for chain, end in source.ends().items() if chain.topic == EVENTS)


def _walk(source: Source, chain: Chain, end: int, tenants: Tenants) -> Iterator[Finding]:
    walk = Walk()
    for offset, value in source.log.values(*chain, 0, end):
        before, event = walk.head.sequence, source.decode(chain.topic, value)
        if broken := walk.take(offset, value, event):
            yield Finding(chain.partition, offset, None, broken)
            return
        if walk.head.sequence > before:
            yield from tenants.take(event, offset)
    if unfinished := walk.unfinished():
        yield Finding(chain.partition, walk.head.next_offset, None, unfinished)
    if walk.head.next_offset < end:
        yield Finding(chain.partition, end, None, f"offsets {walk.head.next_offset} to {end - 1} are missing")


def _lengths(settings: Settings) -> dict[int, int]:
    """How much of each partition the read model has taken in; nothing where none is named."""
    if not settings.database_url:
        return {}
    statement = select(positions.c.partition, positions.c.next_offset).where(positions.c.topic == EVENTS)
    with database.engine(settings.database_url) as engine, engine.connect() as connection:
        return {row.partition: row.next_offset for row in connection.execute(statement)}
