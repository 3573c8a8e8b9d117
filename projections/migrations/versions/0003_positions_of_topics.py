"""Positions are of a topic and a partition, and say which code made the rows.

Of rows that are there already nobody knows: they ask for a rebuild.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("positions", sa.Column("topic", sa.Text, nullable=False, server_default="soma.session.events"))
    op.add_column(
        "positions",
        sa.Column("fold", sa.Text, nullable=False, server_default="", comment="fingerprint of the code that made the partition's rows"),
    )
    op.alter_column("positions", "topic", server_default=None)
    op.alter_column("positions", "fold", server_default=None)
    op.drop_constraint("positions_pkey", "positions")
    op.create_primary_key("positions_pkey", "positions", ["topic", "partition"])


def downgrade() -> None:
    op.execute("DELETE FROM positions WHERE topic <> 'soma.session.events'")
    op.drop_constraint("positions_pkey", "positions")
    op.create_primary_key("positions_pkey", "positions", ["partition"])
    op.drop_column("positions", "fold")
    op.drop_column("positions", "topic")
