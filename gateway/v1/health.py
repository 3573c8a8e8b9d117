"""Health and numbers of this gateway."""

import msgspec
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.auth import Visitor
from gateway.parts import Gateway
from gateway.problems import CannotVerify, RateLimited, Unauthenticated
from gateway.v1.responses import Responses, bad, good
from gateway.v1.shapes import Alive, Health

router = APIRouter(tags=["health"])
PARTS = {
    "gateway": {"status": "ok", "detail": "reads 8 partitions"},
    "kafka": {"status": "ok", "detail": "answers"},
    "registry": {"status": "ok", "detail": "answers"},
    "read_model": {"status": "ok", "detail": "answers"},
    "lag": {"status": "ok", "detail": "0 events behind"},
    "sign_in": {"status": "ok", "detail": "https://login.example.com"},
    "seal": {"status": "ok", "detail": "the keys of sealed text can be had"},
    "audit": {"status": "ok", "detail": "every decision is on record"},
}
DOWN = {"kafka": {"status": "down", "detail": "no broker answers"}}
RESPONSES = good(200, "Everything is served", {"status": "ok", "parts": PARTS})
RESPONSES |= good(503, "Something is not served; `parts` says what", {"status": "down", "parts": PARTS | DOWN})
RESPONSES[503]["model"] = Health
TEXT = {"text/plain": {"schema": {"type": "string"}, "example": "soma_writes_in_flight 3.0\n"}}
NUMBERS: Responses = {200: {"content": TEXT}, **bad(Unauthenticated, RateLimited, CannotVerify, public=True)}


@router.get("/health", summary="Readiness", response_model=Health, responses=RESPONSES | bad(public=True))
async def health(gateway: Gateway, visitor: Visitor) -> Response:
    """Whether the platform can be used through this gateway, and each part that it needs. 503 when one of them is down.

    Everybody may ask; what is wrong in detail is shown to those who sign in.
    """
    document = await gateway.health.document(in_detail=visitor is not None)
    return Response(msgspec.json.encode(document), 503 if document["status"] == "down" else 200, media_type="application/json")


@router.get("/health/live", summary="Liveness", response_model=Alive, responses=good(200, "It answers", {"status": "ok"}))
async def live() -> Response:
    """Whether the process answers at all. One that does not should be started anew."""
    return Response(b'{"status":"ok"}', media_type="application/json")


numbers = APIRouter(tags=["health"])


@numbers.get("/metrics", summary="Numbers for Prometheus", response_class=Response, responses=NUMBERS)
async def metrics() -> Response:
    """Everything this process counts, in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
