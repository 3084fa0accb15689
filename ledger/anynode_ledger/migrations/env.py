"""Runs the migrations on the connection that ``migrate.upgrade`` hands over. No logging set-up: that is the app's."""

from __future__ import annotations

from alembic import context

from anynode_ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, transactional_ddl=True, transaction_per_migration=False
)
context.run_migrations()
