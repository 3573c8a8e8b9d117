"""Relations to things that are another's, and who started a session."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "relations",
        sa.Column("id", sa.Uuid, nullable=False, comment="made from tenant, object, relation and subject"),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False, comment="of a `parent`: its admins"),
        sa.Column("held", sa.Boolean, nullable=False, comment="false once it is taken back"),
        sa.Column("entry", sa.LargeBinary, nullable=False, comment="MessagePack of projections.relation.Relation"),
        sa.PrimaryKeyConstraint("id", name="relations_pkey"),
    )
    op.create_index("relations_of_subject", "relations", ["tenant", "subject"])
    op.create_index("relations_of_object", "relations", ["tenant", "object"])
    op.add_column("sessions", sa.Column("owner", sa.Text, comment="who started it, as `relations` names subjects"))
    op.create_index("sessions_of_owner", "sessions", ["tenant", "owner", "created_at", "id"])


def downgrade() -> None:
    op.drop_index("sessions_of_owner", "sessions")
    op.drop_column("sessions", "owner")
    op.drop_table("relations")
