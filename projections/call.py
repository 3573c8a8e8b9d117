"""One tool call as callers see it: the ledger's entry, folded from the events of its session, here and nowhere else."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from commands.situation import calls_at_all
from projections.session import Summary, shown_text
from projections.text import rfc3339
from schemas.types.common import Sealed, Usage
from schemas.types.session import (
    SessionCancelled,
    SessionClosed,
    SessionEvent,
    SessionExpired,
    ToolCallApproved,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallReturned,
    ToolCallSettled,
    ToolCallStarted,
)

OVER = SessionCancelled | SessionClosed | SessionExpired


class Attempt(Struct, frozen=True, array_like=True):
    """One run of a call."""

    number: int
    executor: str
    started_at: datetime
    deadline: datetime
    ended_at: datetime | None = None
    reason: str | None = None


class Judgement(Struct, frozen=True, array_like=True):
    """What a person said before it could begin."""

    decision: str
    actor: str
    at: datetime
    note: str | Sealed | None


class Call(Struct, frozen=True, kw_only=True):
    """An entry of the ledger. `status` is awaiting, queued, running, unknown, cancelled or done; text stays in the events.

    `index` is the place of its beginning among the events of the command that asked for it.
    """

    id: str
    session_id: str
    tenant: str
    partition: int
    tool: str
    version: int
    digest: bytes
    requested_at: datetime
    updated_at: datetime
    deadline: datetime | None
    status: str
    attempts: tuple[Attempt, ...] = ()
    judgement: Judgement | None = None
    outcome: str | None = None
    result_digest: bytes | None = None
    result_bytes: int | None = None
    artifact: str | None = None
    note: str | Sealed | None = None
    cost_micros: int = 0
    index: int = 0

    @property
    def listed_at(self) -> datetime:
        """Its place in lists: those that one reply asks for, all at once, stand a microsecond after each other."""
        return self.requested_at + timedelta(microseconds=self.index)


def touched(summary: Summary | None, event: SessionEvent) -> list[str]:
    """The calls that an event changes. `summary` is the session before it."""
    if event.meta.version is None:
        return []
    if isinstance(event.body, OVER):
        return [call.call for call in calls_at_all(summary.state)] if summary else []
    id = getattr(event.body, "call", None)
    return [id] if isinstance(id, str) else []


def evolve(call: Call | None, event: SessionEvent) -> Call | None:
    """The entry after an event that touches it. None where its beginning is not known."""
    body, meta = event.body, event.meta
    if isinstance(body, ToolCallRequested):
        return _requested(body, event)
    if call is None:
        return None
    match body:
        case ToolCallApproved():
            judgement = Judgement("approved", meta.actor, meta.time, body.note)
            after = replace(call, status="queued", judgement=judgement, digest=body.digest, deadline=body.deadline)
        case ToolCallStarted():
            attempt = Attempt(body.attempt, body.executor, meta.time, body.deadline)
            after = replace(_ended(call, meta.time, "its executor was lost"), status="running", deadline=body.deadline)
            after = replace(after, attempts=(*after.attempts, attempt))
        case ToolCallReturned():
            after = replace(_ended(_paid(call, body.usage), meta.time, body.reason), status="queued", deadline=body.deadline)
        case ToolCallFinished():
            after = _finished(call, body, event)
        case ToolCallSettled():
            after = replace(_paid(call, body.usage), status="done", outcome=body.outcome, note=body.note)
            after = replace(after, result_digest=body.digest, result_bytes=body.bytes, artifact=body.artifact)
        case _:
            reason = "the session was cancelled" if isinstance(body, SessionCancelled) else "the session ended"
            after = replace(_ended(call, meta.time, reason), status="cancelled", deadline=None)
    return replace(after, updated_at=meta.time)


def document(call: Call) -> dict[str, Any]:
    """An entry, ready for JSON."""
    return {
        "id": call.id,
        "session_id": call.session_id,
        "tool": call.tool,
        "version": call.version,
        "status": call.status,
        "outcome": call.outcome,
        "requested_at": rfc3339(call.requested_at),
        "updated_at": rfc3339(call.updated_at),
        "deadline": call.deadline and rfc3339(call.deadline),
        "arguments_digest": call.digest.hex(),
        "result_digest": call.result_digest and call.result_digest.hex(),
        "result_bytes": call.result_bytes,
        "artifact": call.artifact,
        "note": call.note and shown_text(call.note),
        "cost_micros": call.cost_micros,
        "attempts": [
            {
                "attempt": each.number,
                "executor": each.executor,
                "started_at": rfc3339(each.started_at),
                "ended_at": each.ended_at and rfc3339(each.ended_at),
                "reason": each.reason,
            }
            for each in call.attempts
        ],
        "approval": call.judgement
        and {
            "decision": call.judgement.decision,
            "actor": call.judgement.actor,
            "at": rfc3339(call.judgement.at),
            "note": call.judgement.note and shown_text(call.judgement.note),
        },
    }


def _requested(body: ToolCallRequested, event: SessionEvent) -> Call:
    meta = event.meta
    return Call(
        id=body.call,
        session_id=meta.aggregate_id,
        tenant=meta.tenant,
        partition=meta.command.partition,
        tool=body.tool,
        version=body.version,
        digest=body.digest,
        requested_at=meta.time,
        updated_at=meta.time,
        deadline=body.deadline,
        status="awaiting" if body.approval else "queued",
        index=meta.index,
    )


def _finished(call: Call, body: ToolCallFinished, event: SessionEvent) -> Call:
    denied = Judgement("denied", event.meta.actor, event.meta.time, body.note) if body.outcome == "denied" else call.judgement
    return replace(
        _ended(_paid(call, body.usage), event.meta.time, None),
        status="unknown" if body.outcome == "unknown" else "done",
        outcome=body.outcome,
        judgement=denied,
        result_digest=body.digest,
        result_bytes=body.bytes,
        artifact=body.artifact,
        note=body.note,
        deadline=None,
    )


def _ended(call: Call, now: datetime, reason: str | None) -> Call:
    """With its last attempt over, if one runs."""
    if not call.attempts or call.attempts[-1].ended_at:
        return call
    last = replace(call.attempts[-1], ended_at=now, reason=reason)
    return replace(call, attempts=(*call.attempts[:-1], last))


def _paid(call: Call, usage: Usage | None) -> Call:
    return replace(call, cost_micros=call.cost_micros + usage.cost_micros) if usage else call
