"""Tools as a noun whose records become rows: one folded table and none that logs, as budgets have, besides the session."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Column, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text, Uuid
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from commands import catalogue
from commands.catalogue import know_tool
from projections.noun import Folded, Noun, Row, States
from projections.reading import Chain, Taken
from schemas.types import tool as types
from schemas.types.tool import ToolEvent

tools = Table(
    "tools",
    MetaData(),
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    PrimaryKeyConstraint("id", name="tools_pkey"),
)
MIGRATION = str(CreateTable(tools, if_not_exists=True).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
"""Written down at once, for a constraint that a rebuild took out is left out of it later."""


class Entry(Struct, frozen=True):
    """A tool, and whose it is."""

    id: str
    tenant: str
    tool: catalogue.Tool


def evolve(entry: Entry | None, event: ToolEvent) -> Entry:
    return Entry(event.meta.aggregate_id, event.meta.tenant, know_tool(entry.tool if entry else None, event))


def row(entry: Entry) -> Row:
    return {
        "id": UUID(entry.id),
        "tenant": entry.tenant,
        "partition": 0,
        "name": entry.tool.definition.name,
        "version": entry.tool.version,
        "entry": msgspec.msgpack.encode(entry),
    }


def touched(taken: Taken, states: States) -> Sequence[str]:
    return (taken.id,) if taken.id and taken.event.meta.version else ()


TOOL = Noun(
    name="tool",
    commands="soma.tool.commands",
    events="soma.tool.events",
    event=ToolEvent,
    sources=(catalogue, types),
    folded=(Folded(tools, touched, evolve, row, "entry", msgspec.msgpack.Decoder(Entry).decode),),
)


def here(
    job: Callable[[Any, Chain, Callable[[int], None]], Any], argument: Any, sizes: Mapping[Chain, int], watch: Callable[[Chain, int], None]
) -> dict[Chain, Any]:
    """`over_partitions` in this process: those that it starts know_tool nothing of a noun that only a test has."""
    return {chain: job(argument, chain, lambda records, chain=chain: watch(chain, records)) for chain in sizes}  # type: ignore[misc]
