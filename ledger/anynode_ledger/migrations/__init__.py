"""Alembic's scripts: every version of the ledger's tables, in order."""
