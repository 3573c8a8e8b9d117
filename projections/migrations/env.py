"""Run by alembic for `migrate`, which hands over the connection."""

from alembic import context

from projections.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
