"""Generated from schemas/avro/audit/ by `soma schemas generate`: change those files instead of this one."""

from datetime import datetime

from msgspec import Struct

from schemas.types.common import CommandMeta, CommandsLost, EventMeta, RecordVoided, Refused



class Decision(Struct, frozen=True, kw_only=True):
    """What the gate decided about one request, or about many like it. No address, body, credential or text of the request is in it."""

    id: str
    time: datetime
    actor: str
    kind: str
    action: str
    resource: str
    resource_id: str | None = None
    outcome: str
    rule: str | None = None
    version: str | None = None
    reasons: tuple[str, ...] = ()
    request_id: str | None = None
    trace_id: str | None = None
    method: str
    route: str | None = None
    remote: str | None = None
    facts: str | None = None
    count: int = 1
    first: str | None = None


class NoteDecisions(Struct, frozen=True, kw_only=True, tag=True):
    """Put decisions on record, in their order."""

    source: str
    number: int
    decisions: tuple[Decision, ...]


class AuditCommand(Struct, frozen=True, kw_only=True):
    """Value of soma.audit.commands."""

    meta: CommandMeta
    body: NoteDecisions


class DecisionsNoted(Struct, frozen=True, kw_only=True, tag=True):
    """The gate decided."""

    source: str
    number: int
    first: int
    decisions: tuple[Decision, ...]


class AuditEvent(Struct, frozen=True, kw_only=True):
    """Value of soma.audit."""

    meta: EventMeta
    body: DecisionsNoted | Refused | CommandsLost | RecordVoided
