"""When to ask the shell for an effect: once, until it fails; again after a pause when it did."""

from __future__ import annotations

import math
from collections.abc import Mapping

RETRY_S = 2.0


def may_ask(asked: Mapping[str, float], key: str, now: float) -> bool:
    """Whether the effect named ``key`` is neither under way nor resting after a failure."""
    return asked.get(key, -math.inf) <= now


def under_way(asked: Mapping[str, float], prefix: str) -> bool:
    """Whether an effect whose name starts with ``prefix`` was asked for and has not failed."""
    return any(when == math.inf for key, when in asked.items() if key.startswith(prefix))


def mark(asked: Mapping[str, float], key: str, again_at: float = math.inf) -> dict[str, float]:
    """Remember that ``key`` was asked for; it may be asked for again at ``again_at`` (never, by default)."""
    return {**asked, key: again_at}


def failed(asked: Mapping[str, float], key: str, now: float) -> dict[str, float]:
    """An effect failed: it may be asked for again after a pause."""
    return {**asked, key: now + RETRY_S} if key in asked else dict(asked)
