"""What the gate decided."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("index", sa.Integer, nullable=False, comment="place among the decisions of its record"),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="which decision of the tenant, counted from 1"),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("resource_id", sa.Text),
        sa.Column("entry", sa.LargeBinary, nullable=False, comment="MessagePack of projections.audit.Entry"),
        sa.PrimaryKeyConstraint("partition", "offset", "index", name="audit_pkey"),
    )
    op.create_index("audit_newest", "audit", ["tenant", "number"])
    op.create_index("audit_of_id", "audit", ["tenant", "id"])
    op.create_index("audit_of_actor", "audit", ["tenant", "actor", "number"])
    op.create_index("audit_of_resource", "audit", ["tenant", "resource_id", "number"])


def downgrade() -> None:
    op.drop_table("audit")
