"""When to ask the shell for an effect: once, until it fails; again after a pause when it did."""

from __future__ import annotations

import math

from anynode.rounds.table import Table

RETRY_S = 2.0


def may_ask(asked: Table[str, float], key: str, now: float) -> bool:
    """Whether the effect named ``key`` is neither under way nor resting after a failure."""
    return asked.get(key, -math.inf) <= now


def under_way(asked: Table[str, float], prefix: str) -> bool:
    """Whether an effect whose name starts with ``prefix`` was asked for and has not failed."""
    return any(when == math.inf for key, when in asked.items() if key.startswith(prefix))


def mark(asked: Table[str, float], key: str, again_at: float = math.inf) -> Table[str, float]:
    """Remember that ``key`` was asked for; it may be asked for again at ``again_at`` (never, by default)."""
    return asked.set(key, again_at)


def failed(asked: Table[str, float], key: str, now: float) -> Table[str, float]:
    """An effect failed: it may be asked for again after a pause."""
    return asked.set(key, now + RETRY_S) if key in asked else asked


def kept(asked: Table[str, float], *prefixes: str) -> Table[str, float]:
    """What was asked for under these prefixes; the rest is no longer waited for."""
    return Table({key: when for key, when in asked.items() if key.startswith(prefixes)})
