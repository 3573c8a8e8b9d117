"""The read model's tables. No schema is named: a connection's search_path chooses the generation (docs: blue/green rebuild).

Everything here is derived from the events topics: `soma rebuild` makes it anew.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("outcome", Text),
    Column("model", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("error", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("summary", LargeBinary, nullable=False, comment="MessagePack of projections.session.Summary, from which the row is made"),
    Column("owner", Text, comment="who started it, as `relations` names subjects"),
    PrimaryKeyConstraint("id", name="sessions_pkey"),
    Index("sessions_newest", "tenant", "created_at", "id"),
    Index("sessions_of_owner", "tenant", "owner", "created_at", "id"),
    Index("sessions_metadata", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
)

events = Table(
    "events",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("session_id", Uuid, comment="null where the record belongs to no session of its partition"),
    Column("tenant", Text, nullable=False),
    Column("version", BigInteger),
    Column("type", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("value", LargeBinary, nullable=False, comment="the record's value exactly as it lies in the log"),
    PrimaryKeyConstraint("partition", "offset", name="events_pkey"),
    Index("events_of_session", "session_id", "offset"),
)

calls = Table(
    "calls",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("tool", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("entry", LargeBinary, nullable=False, comment="MessagePack of projections.call.Call, from which the row is made"),
    PrimaryKeyConstraint("id", name="calls_pkey"),
    Index("calls_newest", "tenant", "requested_at", "id"),
    Index("calls_of_session", "session_id", "requested_at"),
    Index("calls_open", "tenant", "status", "requested_at"),
)

audited = Table(
    "audit",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("index", Integer, nullable=False, comment="place among the decisions of its record"),
    Column("tenant", Text, nullable=False),
    Column("number", BigInteger, nullable=False, comment="which decision of the tenant, counted from 1"),
    Column("id", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("resource_id", Text),
    Column("entry", LargeBinary, nullable=False, comment="MessagePack of projections.audit.Entry"),
    PrimaryKeyConstraint("partition", "offset", "index", name="audit_pkey"),
    Index("audit_newest", "tenant", "number"),
    Index("audit_of_id", "tenant", "id"),
    Index("audit_of_actor", "tenant", "actor", "number"),
    Index("audit_of_resource", "tenant", "resource_id", "number"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("entry", LargeBinary, nullable=False, comment="MessagePack of projections.budget.Budget, from which the row is made"),
    PrimaryKeyConstraint("id", name="budgets_pkey"),
)

relations = Table(
    "relations",
    metadata,
    Column("id", Uuid, nullable=False, comment="made from tenant, object, relation and subject"),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("object", Text, nullable=False),
    Column("relation", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="of a `parent`: its admins"),
    Column("held", Boolean, nullable=False, comment="false once it is taken back"),
    Column("entry", LargeBinary, nullable=False, comment="MessagePack of projections.relation.Relation"),
    PrimaryKeyConstraint("id", name="relations_pkey"),
    Index("relations_of_subject", "tenant", "subject"),
    Index("relations_of_object", "tenant", "object"),
)

usage = Table(
    "usage",
    metadata,
    Column("id", Uuid, nullable=False, comment="made from the columns up to `tool`"),
    Column("tenant", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("day", Date, nullable=False, comment="in UTC"),
    Column("model", Text, nullable=False),
    Column("tool", Text, comment="null for what the model itself used"),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("replies", BigInteger, nullable=False),
    Column("tool_calls", BigInteger, nullable=False),
    PrimaryKeyConstraint("id", name="usage_pkey"),
    Index("usage_days", "tenant", "day"),
)

positions = Table(
    "positions",
    metadata,
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("versions", BigInteger, nullable=False),
    Column("void", BigInteger, nullable=False),
    Column("void_in_a_row", BigInteger, nullable=False),
    Column("epoch", Text, nullable=False, comment="commands topic of the last applied command"),
    Column("command_offset", BigInteger, nullable=False, comment="offset of the last applied command, -1 before the first"),
    Column("fold", Text, nullable=False, comment="fingerprint of the code that made the partition's rows"),
    PrimaryKeyConstraint("topic", "partition", name="positions_pkey"),
)
