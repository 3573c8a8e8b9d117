"""Writes to the read model: rows and positions in one transaction, from the positions it expects and from no other (rule 10)."""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Insert, Table, Text, bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from projections import position
from projections.fold import Fold
from projections.noun import Noun, Row, Summed
from projections.nouns import NOUNS
from projections.reading import Chain, Progress, Taken
from projections.tables import positions

CHANNEL = "soma_applied"

_HELD = (
    select(positions)
    .where(tuple_(positions.c.topic, positions.c.partition).in_(bindparam("chains", expanding=True)))
    .order_by(positions.c.topic, positions.c.partition)
    .with_for_update()
)
_NOTIFY = select(func.pg_notify(CHANNEL, func.unnest(bindparam("payloads", type_=ARRAY(Text)))))
_POSITION = update(positions).where(positions.c.topic == bindparam("topic_"), positions.c.partition == bindparam("partition_"))


class Moved(Exception):
    """Another projector moved the positions, or a rebuild swapped the generation: read them again."""


class OtherFold(Exception):
    """The rows were made by other code than this release's, which must not go on with them."""


def load(connection: Connection, chains: Collection[Chain]) -> dict[Chain, Progress]:
    """How far the read model holds each of these; partitions that are new get a row first. Raises OtherFold."""
    new = [position.row(chain, Progress()) for chain in sorted(chains)]
    connection.execute(insert(positions).on_conflict_do_nothing(), new)
    held = {position.chain(row): row for row in _positions(connection)}
    if others := sorted({chain.topic for chain in chains if not position.ours(held[chain])}):
        raise OtherFold(f"The rows of {', '.join(others)} were made by another release's code: run `soma rebuild`.")
    return {chain: position.progress(held[chain]) for chain in chains}


def positions_of(connection: Connection) -> dict[Chain, Progress]:
    """How far the read model holds each partition that it has."""
    return {position.chain(row): position.progress(row) for row in _positions(connection)}


def of_other_folds(connection: Connection) -> list[str]:
    """The events topics whose rows were made by other code than this release's: they need a rebuild."""
    return sorted({row["topic"] for row in _positions(connection) if not position.ours(row)})


def project(connection: Connection, before: Mapping[Chain, Progress], after: Mapping[Chain, Progress], taken: Iterable[Taken]) -> None:
    """Write what these records change, and move each partition's position from `before` to `after`.

    The positions come first: holding them keeps the generation that the later statements see. Raises Moved, with nothing written.
    """
    held = [dict(row) for row in connection.execute(_HELD, {"chains": list(before)}).mappings()]
    if {position.chain(row): position.progress(row) for row in held} != before or not all(map(position.ours, held)):
        raise Moved
    by_topic = dict[str, list[Taken]]()
    for each in taken:
        by_topic.setdefault(each.chain.topic, []).append(each)
    for topic, records in by_topic.items():
        _write(connection, NOUNS[topic], records)
    moved = [position.row(chain, progress) for chain, progress in after.items()]
    connection.execute(_POSITION, [{**row, "topic_": row["topic"], "partition_": row["partition"]} for row in moved])


def announce(connection: Connection, reached: Mapping[Chain, Progress]) -> None:
    """Tell who waits for the served generation, once this transaction is committed.

    A payload is `topic:partition:next event:last command:its epoch`.
    """
    payloads = [
        f"{chain.topic}:{chain.partition}:{progress.head.next_offset}:{progress.command_offset}:{progress.epoch}"
        for chain, progress in reached.items()
    ]
    connection.execute(_NOTIFY, {"payloads": payloads})


def _positions(connection: Connection) -> list[Row]:
    """Those of the nouns that this release knows."""
    return [dict(row) for row in connection.execute(select(positions).where(positions.c.topic.in_(NOUNS))).mappings()]


def _write(connection: Connection, noun: Noun, taken: list[Taken]) -> None:
    """The rows that one noun's records add, and those that they change."""
    if noun.logged and (rows := [row for each in taken for row in noun.logged.rows(each)]):
        connection.execute(noun.logged.table.insert(), rows)
    before = _stored(connection, noun, taken)
    fold = Fold(noun, {table: dict(states) for table, states in before.items()})
    for each in taken:
        fold.take(each)
    for folded in noun.folded:
        stored, states = before[folded.table.name], fold.states[folded.table.name]
        if changed := [folded.row(state) for id, state in states.items() if state is not stored.get(id)]:
            connection.execute(_upsert(folded.table), changed)
    if noun.summed and (added := fold.summed()):
        connection.execute(_add(noun.summed), added)


def _stored(connection: Connection, noun: Noun, taken: list[Taken]) -> dict[str, dict[str, Any]]:
    """What the rows that these records change are made from, as far as there are such rows: by table and id."""
    states: dict[str, dict[str, Any]] = {folded.table.name: {} for folded in noun.folded}
    for folded in noun.folded:
        if ids := {UUID(id) for each in taken for id in folded.touched(each, states)}:
            statement = select(folded.table.c.id, folded.table.c[folded.stored]).where(folded.table.c.id.in_(ids))
            states[folded.table.name] = {str(id): folded.read(stored) for id, stored in connection.execute(statement)}
    return states


@cache
def _upsert(table: Table) -> Insert:
    statement = insert(table)
    return statement.on_conflict_do_update(index_elements=["id"], set_={c.name: c for c in statement.excluded if c.name != "id"})


@cache
def _add(summed: Summed[Any]) -> Insert:
    """What is there already is not read: a row's sums are raised where it lies."""
    statement, columns = insert(summed.table), summed.table.c
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={name: columns[name] + statement.excluded[name] for name in summed.sums}
    )
