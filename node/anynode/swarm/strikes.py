"""Strikes against peers that send what no correct program sends, and who is dropped for them.

A strike is forgiven after a while, so that a rare fault of a long-lived peer costs it nothing; a peer with too many of
them is dropped: its streams are refused and nothing of it is used until the time is over. A busy, slow or absent peer
gets no strike.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from anynode_contracts.errors import Offence


@dataclass(frozen=True, slots=True)
class StrikeRules:
    """``limit`` strikes at a time drop a peer for ``dropped_s``; one is forgiven every ``forgiven_every_s``. At most
    ``peers_max`` peers are remembered with strikes, and as many dropped ones."""

    limit: int = 8
    forgiven_every_s: float = 60.0
    dropped_s: float = 600.0
    peers_max: int = 4096


@dataclass(frozen=True, slots=True)
class Dropped:
    """A peer that is dropped until ``until_s``: for ``offence`` at last, said in ``sentence``."""

    peer_id: str
    offence: Offence
    sentence: str
    until_s: float


class Strikes:
    """The table. Times are seconds of one monotonic clock."""

    def __init__(self, rules: StrikeRules, clock: Callable[[], float]) -> None:
        self._rules, self._clock = rules, clock
        self._scores: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._dropped: OrderedDict[str, Dropped] = OrderedDict()

    def strike(self, peer_id: str, offence: Offence, sentence: str) -> Dropped | None:
        """Count one strike; the drop, if this was the one too many."""
        now_s = self._clock()
        if self.dropped(peer_id) is not None:
            return None
        score, counted_s = self._scores.pop(peer_id, (0.0, now_s))
        score = max(0.0, score - (now_s - counted_s) / self._rules.forgiven_every_s) + 1.0
        if score <= self._rules.limit - 1:  # the last one counts in full, however little is forgiven of the others
            self._scores[peer_id] = (score, now_s)
            if len(self._scores) > self._rules.peers_max:
                self._scores.popitem(last=False)
            return None
        drop = Dropped(peer_id, offence, sentence, now_s + self._rules.dropped_s)
        self._dropped[peer_id] = drop
        if len(self._dropped) > self._rules.peers_max:
            self._dropped.popitem(last=False)
        return drop

    def dropped(self, peer_id: str) -> Dropped | None:
        """Why a peer is dropped now; None if it is not. One whose time is over begins anew."""
        drop = self._dropped.get(peer_id)
        if drop is not None and drop.until_s <= self._clock():
            del self._dropped[peer_id]
            return None
        return drop

    def all_dropped(self) -> tuple[Dropped, ...]:
        """Everybody who is dropped now."""
        now_s = self._clock()
        return tuple(drop for drop in list(self._dropped.values()) if drop.until_s > now_s)

    def left_s(self, drop: Dropped) -> float:
        """How long a drop still lasts."""
        return max(0.0, drop.until_s - self._clock())
