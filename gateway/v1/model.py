"""The models."""

from typing import Any

from fastapi import APIRouter, Response

from gateway.auth import Caller
from gateway.needs import needs
from gateway.parts import Gateway
from gateway.v1.responses import bad, good, json
from gateway.v1.shapes import ModelList
from projections.agent import Agent

router = APIRouter(tags=["models"])
EXAMPLE = {
    "object": "list",
    "data": [
        {
            "id": "echo",
            "object": "model",
            "created": 0,
            "owned_by": "somaagenthub",
            "status": "available",
            "detail": "built in: repeats what it is told, for first runs and tests",
        }
    ],
}


@router.get(
    "/models",
    dependencies=[needs("model.list")],
    summary="List the models",
    response_model=ModelList,
    responses=good(200, "The models", EXAMPLE) | bad(),
)
async def models(gateway: Gateway, caller: Caller) -> Response:
    """What is configured, and whether it answers (asked at most every ten seconds); then the agents, which `model` may name as well."""
    agents = sorted(gateway.agents.catalogue.all(caller.tenant), key=lambda agent: agent.definition.name)
    return json({"object": "list", "data": [*await gateway.models.listed(), *(_entry(agent) for agent in agents if not agent.retired)]})


def _entry(agent: Agent) -> dict[str, Any]:
    created = int(agent.created_at.timestamp())
    state = {"status": "available", "detail": agent.definition.description}
    return {"id": agent.definition.name, "object": "model", "created": created, "owned_by": "agent", **state}
