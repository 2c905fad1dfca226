"""What Alembic runs for each migration: on the connection that `migrate` has, in its transaction."""

from __future__ import annotations

from alembic import context

from ingestd.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, if the transaction is begun as ours is
)
with context.begin_transaction():
    context.run_migrations()
