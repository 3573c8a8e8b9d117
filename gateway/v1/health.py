"""Health and numbers of this gateway."""

import msgspec
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.parts import Gateway
from gateway.v1.shapes import Alive, Health

router = APIRouter(tags=["health"])
EXAMPLE = {"description": "Something is not served; `parts` says what.", "model": Health}


@router.get("/health", summary="Readiness", response_model=Health, responses={503: EXAMPLE})
async def health(gateway: Gateway) -> Response:
    """Whether the platform can be used through this gateway, and each part that it needs. 503 when one of them is down."""
    document = await gateway.health.document()
    return Response(msgspec.json.encode(document), 503 if document["status"] == "down" else 200, media_type="application/json")


@router.get("/health/live", summary="Liveness", response_model=Alive)
async def live() -> Response:
    """Whether the process answers at all. One that does not should be started anew."""
    return Response(b'{"status":"ok"}', media_type="application/json")


numbers = APIRouter(tags=["health"])


@numbers.get("/metrics", summary="Numbers for Prometheus", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics() -> Response:
    """Everything this process counts, in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
