"""`soma verify`: folds the log anew, up to where the read model says it is, and compares every row.

All rows are read in one snapshot of the database, so the projector may go on meanwhile.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, func, select, text

from ops.settings import Settings
from projections import database, position, store
from projections.cores import Watch, over_partitions
from projections.fold import Fold
from projections.noun import Row
from projections.nouns import NOUNS
from projections.reading import Chain, Progress, Reading
from projections.source import Source, Step
from projections.tables import positions
from schemas.chain import digest

ROWS_AT_ONCE = 1_000
MOST = 100
"""Differences after which a partition is looked at no further: more of them say nothing more."""


class Difference(NamedTuple):
    """What the log says of a row, and what the read model has. Where either has no such row, the column is `*`."""

    partition: int
    table: str
    key: str
    column: str
    expected: str
    found: str


class Verified(NamedTuple):
    """One partition: the records that its log holds, the rows that are folded from them, and what differs, at most MOST."""

    records: int
    rows: int
    differences: list[Difference]


class Check(NamedTuple):
    """What every core needs to know: a snapshot of the database, and where it says each partition is."""

    settings: Settings
    snapshot: str
    positions: dict[Chain, Progress]


def verify(settings: Settings, begin: Callable[[dict[Chain, int]], None], watch: Watch) -> dict[Chain, Verified]:
    """Every partition that has a position, and those that have rows without one. Raises Busy, ChainBroken, LogUnavailable."""
    with database.engine(database.url(settings)) as engine, database.kept(engine, exclusively=False), _snapshot(engine) as connection:
        snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
        held = store.positions_of(connection)
        sizes = {chain: progress.head.next_offset for chain, progress in held.items()}
        begin(sizes)
        verified = over_partitions(verify_partition, Check(settings, str(snapshot), held), sizes, watch)
        return verified | _strays(connection, held)


def verify_partition(check: Check, chain: Chain, step: Step) -> Verified:
    """Compare one partition's rows with its log."""
    reading, fold = Reading(chain, Progress()), Fold(NOUNS[chain.topic])
    records = Source(check.settings).valid(reading, check.positions[chain].head.next_offset, step)

    def differences(connection: Connection) -> Iterator[Difference]:
        for table, expected in fold.tables(records):
            yield from _compare(connection, table, chain, expected)
        yield from _compare(connection, positions, chain, [position.row(chain, reading.progress)])

    with database.engine(database.url(check.settings)) as engine, _snapshot(engine) as connection:
        connection.execute(text(f"SET TRANSACTION SNAPSHOT '{check.snapshot}'"))
        differing = list(islice(differences(connection), MOST))
    return Verified(reading.head.sequence, sum(map(len, fold.states.values())) + len(fold.sums), differing)


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _compare(connection: Connection, table: Table, chain: Chain, expected: Iterable[Row]) -> Iterator[Difference]:
    """Walk both sides in the order of the primary key."""
    columns = list(table.primary_key)
    statement = select(table).where(table.c.partition == chain.partition).order_by(*columns).execution_options(yield_per=ROWS_AT_ONCE)
    if table is positions:
        statement = statement.where(positions.c.topic == chain.topic)
    left, right = iter(expected), map(dict[str, Any], connection.execute(statement).mappings())

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[column.name] for column in columns)

    told, found = next(left, None), next(right, None)
    while told is not None or found is not None:
        if told is not None and (found is None or key(told) < key(found)):
            yield Difference(chain.partition, table.name, _named(key(told)), "*", "a row", "none")
            told = next(left, None)
        elif found is not None and (told is None or key(found) < key(told)):
            yield Difference(chain.partition, table.name, _named(key(found)), "*", "none", "a row")
            found = next(right, None)
        elif told is not None and found is not None:
            for column in [column for column in told if told[column] != found[column]]:
                yield Difference(chain.partition, table.name, _named(key(told)), column, _shown(told[column]), _shown(found[column]))
            told, found = next(left, None), next(right, None)


def _strays(connection: Connection, held: Collection[Chain]) -> dict[Chain, Verified]:
    """Rows of partitions that have no position: nothing projected them."""
    strays = dict[Chain, Verified]()
    for topic, noun in NOUNS.items():
        known = [chain.partition for chain in held if chain.topic == topic]
        for table in noun.tables:
            statement = select(table.c.partition, func.count()).where(table.c.partition.not_in(known)).group_by(table.c.partition)
            for partition, count in connection.execute(statement):
                verified = strays.setdefault(Chain(topic, partition), Verified(0, 0, []))
                verified.differences.append(Difference(partition, table.name, "*", "*", "none", f"{count} rows"))
    return strays


def _named(key: tuple[Any, ...]) -> str:
    """A row's key without its first part, where it has more: that is the same for all that are compared."""
    return "-".join(map(str, key[1:] or key))


def _shown(value: Any) -> str:
    """Bytes may hold what people wrote, and are long: their digest tells them apart."""
    return f"{len(value)} bytes, digest {digest(value).hex()}" if isinstance(value, bytes) else str(value)
