"""What tenants used."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("id", sa.Uuid, nullable=False, comment="made from the columns up to `tool`"),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("day", sa.Date, nullable=False, comment="in UTC"),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("tool", sa.Text, comment="null for what the model itself used"),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("replies", sa.BigInteger, nullable=False),
        sa.Column("tool_calls", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="usage_pkey"),
    )
    op.create_index("usage_days", "usage", ["tenant", "day"])


def downgrade() -> None:
    op.drop_table("usage")
