"""The audit of a tenant: what the gate decided about its requests, in one order, whichever gateway decided it.

Gateways number what they note, as Kafka's idempotent producers do (KIP-98): so what is sent again after an outage of any length is told
from what is new, by one number a gateway instead of the ids of all that it sent.
"""

from typing import Literal

from msgspec import Struct

from commands.decision import Refusal
from schemas.ids import keyed_id
from schemas.types.audit import AuditCommand, AuditEvent, DecisionsNoted, NoteDecisions

PARTITIONS = 4
"""Of its topics, for good: a tenant's id is hashed over so many."""
MOST = 200
"""Decisions that one command may hold."""
SOURCES = 256
"""Gateways that are remembered, those that noted last: one that was silent for longer than so many others lived is forgotten."""

Body = DecisionsNoted


class Source(Struct, frozen=True, array_like=True):
    """A gateway, and the number of what it noted last."""

    id: str
    number: int


class Kept(Struct, frozen=True, tag=True):
    """So many decisions are on record. The source that noted last comes last."""

    decisions: int = 0
    sources: tuple[Source, ...] = ()

    def last(self, source: str) -> int:
        """The number of what it noted last; 0 before that."""
        return next((each.number for each in self.sources if each.id == source), 0)


State = Kept
initial: State = Kept()
Decision = list[Body] | Refusal
Outcome = Literal["allowed", "denied", "unauthenticated", "failed_open"]


def audit_id(tenant: str) -> str:
    """The id of a tenant's audit, which carries its partition."""
    return keyed_id(tenant, "audit", tenant, PARTITIONS)


def decide(state: State, command: AuditCommand) -> Decision:
    """The decisions, on record, or why not. Pure (rule 4)."""
    body: NoteDecisions = command.body
    if audit_id(command.meta.tenant) != command.meta.aggregate_id:
        return Refusal("misnamed", "It is not the id of this tenant's audit.")
    if not 1 <= len(body.decisions) <= MOST:
        return Refusal("count", f"A command notes 1 to {MOST} decisions.")
    if body.number <= state.last(body.source):
        return Refusal("unchanged", "These decisions are on record.")
    return [DecisionsNoted(source=body.source, number=body.number, first=state.decisions + 1, decisions=body.decisions)]


def evolve(state: State, event: AuditEvent) -> State:
    """The state after a versioned event. Raises ValueError where decisions are left out, or counted twice."""
    body = event.body
    if not isinstance(body, DecisionsNoted) or body.first != state.decisions + 1 or body.number <= state.last(body.source):
        name, meta = type(body).__name__, event.meta
        raise ValueError(f"{name} cannot follow {state.decisions} decisions: {meta.aggregate_id} v{meta.version}")
    others = tuple(each for each in state.sources if each.id != body.source)
    return Kept(state.decisions + len(body.decisions), (*others, Source(body.source, body.number))[-SOURCES:])
