"""Budgets of tenants."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False, comment="MessagePack of projections.budget.Budget, from which the row is made"),
        sa.PrimaryKeyConstraint("id", name="budgets_pkey"),
    )


def downgrade() -> None:
    op.drop_table("budgets")
