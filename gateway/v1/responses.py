"""How the routes of version 1 describe and make their answers."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from gateway.problems import (
    MEDIA_TYPE,
    AuditFull,
    CannotVerify,
    Forbidden,
    Internal,
    NothingSent,
    PolicyDown,
    Problem,
    RateLimited,
    RelationsDown,
    Unauthenticated,
)
from projections.session import Summary, View, document

Responses = dict[int | str, dict[str, Any]]
SESSION = {
    "id": "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c000",
    "status": "idle",
    "outcome": None,
    "model": "echo",
    "agent": None,
    "origin": None,
    "version": 4,
    "position": "0:42",
    "metadata": {"team": "blue"},
    "error": None,
    "usage": {"input_tokens": 1, "output_tokens": 2, "cost_micros": 0},
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.004000Z",
    "messages": [
        {"role": "user", "content": "hello", "at": "2026-01-31T12:00:00.000000Z", "place": "e0-40"},
        {"role": "assistant", "content": "echo: hello", "at": "2026-01-31T12:00:00.004000Z", "place": "e0-42"},
    ],
}
OVERVIEW = {name: value for name, value in SESSION.items() if name != "messages"}
ACCEPTED = {"id": SESSION["id"], "position": "0:42", "detail": "The command is recorded for good; what became of it is not known yet."}
EVENT = {
    "place": "e0-42",
    "type": "ReplyRecorded",
    "id": "6f0c9d3a-7c1e-5a52-9c1a-0d5f7c7e8a11",
    "session_id": SESSION["id"],
    "version": 4,
    "at": "2026-01-31T12:00:00.004000Z",
    "actor": "platform",
    "command_id": "b5d2f1c4-30a7-5f0e-8a39-5d3a1f4f6f02",
    "position": "0:43",
    "data": {
        "request": 3,
        "attempt": "019ab3c2-7e1e-7d11-8a70-9be2c1d4f000",
        "content": "echo: hello",
        "finish_reason": "stop",
        "usage": {"input_tokens": 1, "output_tokens": 2, "cost_micros": 0},
        "calls": [],
    },
}
STREAM = f"id: e0-42\nevent: ReplyRecorded\ndata: {msgspec.json.encode(EVENT).decode()}\n\n"


def json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers, "application/json")


def of_session(view: View, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A session, with its version as ETag and its position as consistency token."""
    assert view.summary, "only a session that is started is shown"
    return json(document(view), status, {**marks(view.summary), **(headers or {})})


def marks(summary: Summary) -> dict[str, str]:
    """The headers that say which state an answer shows."""
    return {"ETag": f'"{summary.version}"', "Soma-Position": summary.position}


def verbatim(example: Any) -> str:
    """An example as text, which gateway/openapi.py turns into JSON again: FastAPI would leave its nulls out."""
    return msgspec.json.encode(example).decode()


def good(status: int, about: str, example: Any, headers: Mapping[str, str] | None = None, stream: str | None = None) -> Responses:
    """A good answer, for the API document. `headers`: name → what it says. `stream`: an example of the same as Server-Sent Events."""
    described = {name: {"description": text, "schema": {"type": "string"}} for name, text in (headers or {}).items()}
    content: dict[str, Any] = {"application/json": {"example": verbatim(example)}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}, "example": stream}
    return {status: {"description": about, "content": content, "headers": described}}


GATE: tuple[type[Problem], ...] = (Unauthenticated, Forbidden, RateLimited, CannotVerify, PolicyDown, RelationsDown, AuditFull)
"""What the gate answers before any route does."""


def bad(*kinds: type[Problem], public: bool = False) -> Responses:
    """Bad answers, for the API document, by status; every route can also meet NothingSent while it starts, and Internal.

    Those that are not public meet what the gate answers, too.
    """
    by_status: dict[int, list[type[Problem]]] = {}
    every: tuple[type[Problem], ...] = (*kinds, Internal, NothingSent, *(() if public else GATE))
    for kind in every:
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _problem(of_status) for status, of_status in sorted(by_status.items())}


def _problem(kinds: list[type[Problem]]) -> dict[str, Any]:
    examples = {kind.code: {"summary": kind.title, "value": kind(f"{kind.title}.").document()} for kind in kinds}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    return {"description": " · ".join(kind.title for kind in kinds), "content": content}
