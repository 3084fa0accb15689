"""When the verifier is killed while it settles and posts: at moments that a seed draws."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

#: From the last round's end, or the last start, to a death: longer than a root takes from its draw to its transaction.
SPREAD_S = 12.0


@dataclass(frozen=True, slots=True)
class Death:
    """How long after the last round it was, and which roots there were then: "1 posted", say."""

    after_s: float
    roots: list[str]


class Deaths:
    """Draws the moments of ``count`` deaths; ``now`` is any clock in seconds."""

    def __init__(self, count: int, seed: int) -> None:
        self._left, self._random = count, random.Random(seed)  # noqa: S311 (nobody is to be surprised by it)
        self._due: float | None = None
        self._began = 0.0
        self.seen: list[Death] = []

    def begin(self, now: float) -> None:
        """From now on they may come."""
        self._began = now
        self._draw(now)

    def due(self, now: float) -> bool:
        """Whether it is time for one."""
        return self._due is not None and now >= self._due

    def note(self, now: float, roots: list[str]) -> None:
        """One has come; the next is drawn when the verifier is ``up`` again."""
        self.seen.append(Death(round(now - self._began, 1), roots))
        self._left, self._due = self._left - 1, None

    def up(self, now: float) -> None:
        """The verifier answers again."""
        if self._due is None and self._began:
            self._draw(now)

    @property
    def outstanding(self) -> bool:
        """Whether there is one still to come."""
        return self._left > 0

    def summary(self) -> list[dict[str, Any]]:
        return [{"after_s": death.after_s, "roots": death.roots} for death in self.seen]

    def _draw(self, now: float) -> None:
        if self._left > 0:
            self._due = now + self._random.uniform(0.0, SPREAD_S)
