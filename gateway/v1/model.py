"""The models."""

import msgspec
from fastapi import APIRouter, Response

from gateway.needs import needs
from gateway.parts import Gateway
from gateway.v1.responses import bad, good
from gateway.v1.shapes import ModelList

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
async def models(gateway: Gateway) -> Response:
    """What is configured, and whether it answers (asked at most every ten seconds)."""
    return Response(msgspec.json.encode(await gateway.models.listed()), media_type="application/json")
