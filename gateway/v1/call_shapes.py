"""What goes in and out about tool calls, as callers see it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.v1.responses import SESSION
from gateway.v1.shapes import Input, Request, Sealed

ENTRY: dict[str, Any] = {
    "id": "6f0c9d3a-7c1e-5a52-9c1a-0d5f7c7e8a11",
    "session_id": SESSION["id"],
    "tool": "calculator",
    "version": 1,
    "status": "done",
    "outcome": "ok",
    "requested_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.020000Z",
    "deadline": None,
    "arguments_digest": "2f2c1e1c7a0b4a0f9e8d7c6b5a493827",
    "result_digest": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "result_bytes": 2,
    "artifact": None,
    "note": None,
    "cost_micros": 0,
    "attempts": [
        {
            "attempt": 1,
            "executor": "host-4711-0a1b2c3d",
            "started_at": "2026-01-31T12:00:00.010000Z",
            "ended_at": "2026-01-31T12:00:00.020000Z",
            "reason": None,
        }
    ],
    "approval": None,
}
DETAILED = {**ENTRY, "arguments": '{"expression":"6*7"}', "result": "42"}
Digest = Annotated[str, Field(pattern="^[0-9a-f]{32}$", examples=[ENTRY["arguments_digest"]])]
Status = Literal["awaiting", "queued", "running", "unknown", "cancelled", "done"]
Note = Annotated[str | None, Field(max_length=512, description="For the record.", examples=["checked with the customer"])]


class Approval(Request):
    """A person lets the call go on."""

    arguments_digest: Annotated[Digest, Field(description="Of the arguments that the person saw: others are refused.")]
    note: Note = None
    arguments: Annotated[dict[str, Any] | None, Field(description="Others to run it with.", examples=[{"expression": "6*7"}])] = None


class Denial(Request):
    """A person refuses the call."""

    note: Note = None


class Settlement(Request):
    """How a call ended whose outcome nobody knows."""

    outcome: Annotated[Literal["ok", "error"], Field(description="Whether it did its work.", examples=["ok"])]
    result: Annotated[Input, Field(description="Its result, as the model is told.", examples=["paid"])]
    note: Note = None


class Attempt(BaseModel):
    """One run of a call."""

    attempt: int
    executor: str
    started_at: str
    ended_at: str | None
    reason: str | None


class Judgement(BaseModel):
    """What a person decided."""

    decision: Literal["approved", "denied"]
    actor: str
    at: str
    note: str | Sealed | None


class Entry(BaseModel):
    """An entry of the ledger."""

    id: Annotated[str, Field(description="Also the idempotency key that the tool is given.")]
    session_id: str
    tool: str
    version: int
    status: Status
    outcome: Annotated[str | None, Field(description="ok, error, invalid, refused, budget, repeated, denied, deadline or unknown.")]
    requested_at: str
    updated_at: str
    deadline: str | None
    arguments_digest: str
    result_digest: str | None
    result_bytes: int | None
    artifact: Annotated[str | None, Field(description="Where a large result lies, in the artifact store.")]
    note: str | Sealed | None
    cost_micros: int
    attempts: list[Attempt]
    approval: Judgement | None


class Detailed(Entry):
    """An entry with its text."""

    arguments: Any
    result: Any


class Ledger(BaseModel):
    """A page of the ledger, the newest first."""

    calls: list[Entry]
    next_cursor: str | None


class Approvals(BaseModel):
    """Calls that wait for a person, the newest first."""

    approvals: list[Detailed]
    next_cursor: str | None
