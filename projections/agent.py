"""Agents as callers see them: a projection that each gateway keeps in memory, for they are few (ops/follow.py)."""

from typing import Any

import msgspec

from commands.catalogue import Agent, know_agent
from ops.follow import Catalogue, Subject
from projections.named import standing
from projections.session import shown_text
from schemas.types.agent import AgentEvent, Definition

__all__ = ["AGENTS", "Agent", "Agents", "document", "overview"]

AGENTS: Subject[Agent] = Subject("agent", "soma.agent.events", AgentEvent, know_agent)
Agents = Catalogue[Agent]


def document(agent: Agent, version: int | None = None) -> dict[str, Any]:
    """The answer of a GET, ready for JSON; of an earlier version, which there must be, if one is named."""
    definition = agent.definition if version is None else agent.versions[version - 1]
    return {**overview(agent), **_written(definition), "version": version or agent.version, "newest": agent.version}


def overview(agent: Agent) -> dict[str, Any]:
    """An entry of a list, ready for JSON: what the newest version is for."""
    return {**standing(agent), "model": agent.definition.model}


def _written(definition: Definition) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(definition)
    return plain | {"instructions": definition.instructions and shown_text(definition.instructions)}
