"""Writes to the read model: rows and positions in one transaction, from the positions it expects and from no other (rule 10)."""

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from sqlalchemy import Connection, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from projections import call, rows
from projections.reading import Folded, Progress, Taken
from projections.rows import Row
from projections.tables import calls, events, positions, sessions

CHANNEL = "soma_applied"

_EVENT = events.insert()
_SESSION = insert(sessions)
_SESSION = _SESSION.on_conflict_do_update(index_elements=["id"], set_={c.name: c for c in _SESSION.excluded if c.name != "id"})
_CALL = insert(calls)
_CALL = _CALL.on_conflict_do_update(index_elements=["id"], set_={c.name: c for c in _CALL.excluded if c.name != "id"})
_HELD = (
    select(positions)
    .where(positions.c.partition.in_(bindparam("partitions", expanding=True)))
    .order_by(positions.c.partition)
    .with_for_update()
)
_NOTIFY = select(func.pg_notify(CHANNEL, func.unnest(bindparam("payloads", type_=ARRAY(Text)))))
_POSITION = update(positions).where(positions.c.partition == bindparam("partition_"))


class Moved(Exception):
    """Another projector moved the positions, or a rebuild swapped the generation: read them again."""


def load(connection: Connection, partitions: Collection[int]) -> dict[int, Progress]:
    """How far the read model holds each partition; partitions that are new get a row first."""
    new = [rows.position_row(partition, Progress()) for partition in sorted(partitions)]
    connection.execute(insert(positions).on_conflict_do_nothing(), new)
    held = positions_of(connection)
    return {partition: held[partition] for partition in partitions}


def positions_of(connection: Connection) -> dict[int, Progress]:
    """How far the read model holds each partition that it has."""
    return {row["partition"]: rows.progress(dict(row)) for row in connection.execute(select(positions)).mappings()}


def project(connection: Connection, before: Mapping[int, Progress], after: Mapping[int, Progress], taken: Iterable[Taken]) -> None:
    """Write what these records change, and move each partition's position from `before` to `after`.

    The positions come first: holding them keeps the generation that the later statements see. Raises Moved, with nothing written.
    """
    held = connection.execute(_HELD, {"partitions": list(before)}).mappings()
    if {row["partition"]: rows.progress(dict(row)) for row in held} != before:
        raise Moved
    taken = list(taken)
    if taken:
        connection.execute(_EVENT, [rows.event_row(each) for each in taken])
        sessions_changed, calls_changed = _fold(connection, taken)
        if sessions_changed:
            connection.execute(_SESSION, sessions_changed)
        if calls_changed:
            connection.execute(_CALL, calls_changed)
    moved = [rows.position_row(partition, progress) for partition, progress in after.items()]
    connection.execute(_POSITION, [{**row, "partition_": row["partition"]} for row in moved])


def announce(connection: Connection, reached: Mapping[int, Progress]) -> None:
    """Tell who waits for the served generation, once this transaction is committed: `partition:next event:last command:its epoch`."""
    payloads = [
        f"{partition}:{progress.head.next_offset}:{progress.command_offset}:{progress.epoch}" for partition, progress in reached.items()
    ]
    connection.execute(_NOTIFY, {"payloads": payloads})


def _fold(connection: Connection, taken: list[Taken]) -> tuple[list[Row], list[Row]]:
    """The rows of the sessions that these records belong to, and of the calls that they change, after them."""
    ids = {UUID(each.session_id) for each in taken if each.session_id}
    stored = map(rows.summary, connection.scalars(select(sessions.c.summary).where(sessions.c.id.in_(ids))))
    summaries = {summary.id: summary for summary in stored}
    touched = {UUID(id) for each in taken if each.session_id for id in call.touched(summaries.get(each.session_id), each.event)}
    calls_stored = map(rows.call, connection.scalars(select(calls.c.entry).where(calls.c.id.in_(touched)))) if touched else ()
    before = Folded(summaries, {entry.id: entry for entry in calls_stored})
    after = Folded(dict(before.summaries), dict(before.calls))
    for each in taken:
        after.take(each)
    changed_sessions = [rows.session_row(new) for id, new in after.summaries.items() if new is not before.summaries.get(id)]
    changed_calls = [rows.call_row(entry) for id, entry in after.calls.items() if entry is not before.calls.get(id)]
    return changed_sessions, changed_calls
