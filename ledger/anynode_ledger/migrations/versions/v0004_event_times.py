"""Events know when their block was, which may be long before they were booked. Of those read before, nobody knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chain_events", sa.Column("timestamp_s", sa.BigInteger(), nullable=True))
