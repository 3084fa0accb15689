"""Disputes between a first replay and the second that has to confirm it: the segment, and the state before it.

Both sides agree on that state, because the trace binds its fingerprint. The second replay does the one segment from it,
in a fresh process, and knows nothing of what the first has found in it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from anynode.training.messages import Claim

KEPT_MAX = 8
"""So many agreed states lie on the disk at a time; beyond that a round is replayed whole once more."""


@dataclass(frozen=True, slots=True)
class Disputed:
    """A ``segment`` of a claim, whose leaves are known, and the root of the ``agreed`` state before it (empty: the one
    that the round began from). ``asked``: what was beyond which threshold, where a tolerant replay came first.
    """

    claim: Claim
    segment: int
    agreed: str
    asked: str = ""


class Disputes:
    """The open disputes of one job, by round and slot; states lie below ``folder``, one folder a piece of work."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[int, int], Disputed] = {}

    def folder_of(self, round_: int, slot: int) -> Path:
        """Where states of a piece of work lie while it is judged."""
        return self._folder / f"{round_}-{slot}"

    def open(self, round_: int, slot: int, disputed: Disputed) -> None:
        """Remember a dispute for the second replay; with too many open ones, the oldest is forgotten."""
        self._open[round_, slot] = disputed
        while len(self._open) > KEPT_MAX:
            self.forget(*next(iter(self._open)))

    def of(self, round_: int, slot: int) -> Disputed | None:
        return self._open.get((round_, slot))

    def forget(self, round_: int, slot: int) -> None:
        """A piece of work is decided: what was kept for it goes."""
        self._open.pop((round_, slot), None)
        shutil.rmtree(self.folder_of(round_, slot), ignore_errors=True)
