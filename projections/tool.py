"""Tools as callers see them: a projection that each gateway keeps in memory, for they are few (ops/follow.py)."""

import json
from typing import Any, assert_never

import msgspec

from commands.catalogue import Tool, know_tool
from commands.tool import Breaker, Closed, HalfOpen, Open, Probing
from ops.follow import Catalogue, Subject
from projections.named import standing
from projections.text import rfc3339
from schemas.types.tool import Definition, ToolEvent

__all__ = ["TOOLS", "Tool", "Tools", "breaker", "document", "overview"]

TOOLS: Subject[Tool] = Subject("tool", "soma.tool.events", ToolEvent, know_tool)
Tools = Catalogue[Tool]


def document(tool: Tool, version: int | None = None) -> dict[str, Any]:
    """The answer of a GET, ready for JSON; of an earlier version, which there must be, if one is named."""
    definition = tool.definition if version is None else tool.versions[version - 1]
    return {**overview(tool), **_written(definition), "version": version or tool.version, "newest": tool.version}


def overview(tool: Tool) -> dict[str, Any]:
    """An entry of a list, ready for JSON: what the newest version is for, and whether it works."""
    return {**standing(tool), "breaker": breaker(tool.breaker)}


def breaker(breaker: Breaker) -> dict[str, Any]:
    """Whether the tool works, ready for JSON."""
    match breaker:
        case Closed(failures):
            return {"status": "closed", "failures": failures, "until": None}
        case Open(until):
            return {"status": "open", "failures": None, "until": rfc3339(until)}
        case HalfOpen() | Probing():
            return {"status": "half_open", "failures": None, "until": None}
        case _:
            assert_never(breaker)


def _written(definition: Definition) -> dict[str, Any]:
    """A definition as it was sent, its schemas as JSON again."""
    plain: dict[str, Any] = msgspec.to_builtins(definition)
    schemas = {name: plain[name] and json.loads(plain[name]) for name in ("parameters", "result", "approval_when")}
    return plain | schemas
