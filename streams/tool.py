"""The tool as the generic processor sees it, and as those see it who call tools."""

import asyncio
from collections.abc import Sequence

from commands import catalogue, tool
from commands.catalogue import Tool
from ops.follow import Catalogue, Subject
from schemas.types import common
from schemas.types import tool as types
from schemas.types.tool import Definition
from streams import aggregate
from streams.noun import Noun, keeps_nothing, waits_for_nothing

TOOL = Noun(
    name="tool",
    commands="soma.tool.commands",
    events="soma.tool.events",
    snapshots="soma.tool.snapshots",
    command=types.ToolCommand,
    event=types.ToolEvent,
    initial=tool.initial,
    state=tool.State,
    decide=tool.decide,
    evolve=tool.evolve,
    outstanding=waits_for_nothing,
    due=tool.due,
    when_due=tool.when_due,
    keeps_place=keeps_nothing,
    results=(types.ReportFailure, types.ReportSuccess, types.ProbeTool, types.HalfOpenBreaker),
    sources=(tool, aggregate, types, common),
    reported=True,
)

PATIENCE_SECONDS = 0.05


async def given(tools: "Tools", tenant: str, wanted: Sequence[tuple[str, int]]) -> dict[str, Definition]:
    """These versions, by name. Waits for what was recorded and is not read yet: a session is given only versions that are on record."""
    found = dict[str, Definition]()
    for name, version in wanted:
        while not ((known := tools.find(tenant, name)) and (definition := known.at(version))):
            await asyncio.sleep(PATIENCE_SECONDS)
        found[name] = definition
    return found


TOOLS: Subject[Tool] = Subject("tool", TOOL.events, TOOL.event, catalogue.know_tool)
Tools = Catalogue[Tool]
"""`find(tenant, name)` gives a Tool, whose versions are all there."""
