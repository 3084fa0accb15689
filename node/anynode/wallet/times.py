"""Times of the chain and the ledger for people."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(at_s: int) -> str:
    """``2023-11-14 22:13:20 UTC`` for seconds since 1970."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
