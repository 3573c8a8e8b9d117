"""Tool calls."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("session_id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False, comment="MessagePack of projections.call.Call, from which the row is made"),
        sa.PrimaryKeyConstraint("id", name="calls_pkey"),
    )
    op.create_index("calls_newest", "calls", ["tenant", "requested_at", "id"])
    op.create_index("calls_of_session", "calls", ["session_id", "requested_at"])
    op.create_index("calls_open", "calls", ["tenant", "status", "requested_at"])


def downgrade() -> None:
    op.drop_table("calls")
