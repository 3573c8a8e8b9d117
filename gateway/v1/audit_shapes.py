"""What goes out about the audit, as callers see it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

DECISION: dict[str, Any] = {
    "id": "019ab3c2-7e1d-7cc0-9f6a-3b1de5a1c400",
    "number": 41,
    "place": "e2-17",
    "at": "2026-01-31T12:00:00.000000Z",
    "actor": "ada",
    "kind": "user",
    "action": "session.start",
    "resource": "session",
    "resource_id": None,
    "outcome": "denied",
    "rule": "model",
    "version": "3f1c0d9e8b7a",
    "reasons": ["The tenant may not use the model gpt."],
    "request_id": "r-17",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "method": "POST",
    "route": "/v1/sessions",
    "remote": "192.0.2.7",
    "facts": {"scopes": ["sessions:write"], "path": "/v1/sessions", "own": {"model": "gpt", "tools": [], "limits": {}}},
    "count": 1,
    "first": None,
}
Outcome = Literal["allowed", "denied", "unauthenticated", "failed_open"]


class Decision(BaseModel):
    """A decision of the gate, on record."""

    id: str
    number: Annotated[int, Field(description="Which decision of the tenant, counted from 1 without a gap.")]
    place: Annotated[str, Field(description="Its record in the topic soma.audit.")]
    at: str
    actor: Annotated[str, Field(description="Empty where nobody was proved.")]
    kind: Literal["user", "key", "anonymous", "unknown", "operator"]
    action: str
    resource: Annotated[str, Field(description="The kind of what the action is done to.")]
    resource_id: str | None
    outcome: Outcome
    rule: str | None
    version: Annotated[str | None, Field(description="Of the policies.")]
    reasons: list[str]
    request_id: Annotated[str | None, Field(description="The caller's X-Request-Id.")]
    trace_id: str | None
    method: str
    route: Annotated[str | None, Field(description="The route's template; null where nobody was let in to look for one.")]
    remote: str | None
    facts: Annotated[
        dict[str, Any] | None,
        Field(description="What else the policies saw: scopes, roles, claims, path, the action's own. Null where that is not kept."),
    ]
    count: Annotated[int, Field(description="How many requests it stands for.")]
    first: Annotated[str | None, Field(description="Where it stands for repetitions: the decision that they repeat.")]


class Trail(BaseModel):
    """A page of decisions, the newest first."""

    decisions: list[Decision]
    next_cursor: str | None
