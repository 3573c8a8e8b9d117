"""Sessions, their events, and how far each partition is applied."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("metadata", JSONB, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("error", JSONB),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "summary", sa.LargeBinary, nullable=False, comment="MessagePack of projections.session.Summary, from which the row is made"
        ),
        sa.PrimaryKeyConstraint("id", name="sessions_pkey"),
    )
    op.create_index("sessions_newest", "sessions", ["tenant", "created_at", "id"])
    op.create_index("sessions_metadata", "sessions", ["metadata"], postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"})
    op.create_table(
        "events",
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("session_id", sa.Uuid, comment="null where the record belongs to no session of its partition"),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False, comment="the record's value exactly as it lies in the log"),
        sa.PrimaryKeyConstraint("partition", "offset", name="events_pkey"),
    )
    op.create_index("events_of_session", "events", ["session_id", "offset"])
    op.create_table(
        "positions",
        sa.Column("partition", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("versions", sa.BigInteger, nullable=False),
        sa.Column("void", sa.BigInteger, nullable=False),
        sa.Column("void_in_a_row", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False, comment="commands topic of the last applied command"),
        sa.Column("command_offset", sa.BigInteger, nullable=False, comment="offset of the last applied command, -1 before the first"),
        sa.PrimaryKeyConstraint("partition", name="positions_pkey"),
    )


def downgrade() -> None:
    for table in ("positions", "events", "sessions"):
        op.drop_table(table)
