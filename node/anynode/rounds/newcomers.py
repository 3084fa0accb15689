"""Which newcomers get a place in a round: so few that their audits stay a small part of all audits. Pure.

A throw-away identity costs nothing but the replays of its first work: one to see that it is false, one to confirm it,
whole where it shows no trace, a third beside a member's audit task, and a fourth if it appeals. It has nothing from
which they could be repaid, so all are counted before it gets a place. Places are drawn from all who wait, by the
round's beacon, which nobody knows when choosing a key; who has something to lose comes first.
"""

from __future__ import annotations

from collections.abc import Collection

from blake3 import blake3

AUDIT_SHARE = 0.1
"""The part of what the auditor can replay in a round that newcomers may take."""
REPLAYS_MOST = 4
"""So often one newcomer's work is done again on the verifier's machine, at most."""
PLACES_UNMEASURED = 8
"""Places for newcomers until a replay and a round have been timed."""


def newcomer_places(replay_steps_per_s: float, round_s: float, newcomer_steps: int) -> int:
    """How many newcomers fit, each of whom takes up to `REPLAYS_MOST` replays of ``newcomer_steps``: at least one, or
    nobody new could ever come. A speed or a time of 0 is one that is not known yet.
    """
    if replay_steps_per_s <= 0 or round_s <= 0:
        return PLACES_UNMEASURED
    return max(1, int(AUDIT_SHARE * replay_steps_per_s * round_s / (REPLAYS_MOST * newcomer_steps)))


def draw_newcomers(waiting: Collection[str], staked: Collection[str], places: int, beacon: str) -> list[str]:
    """The nodes that get the places: those with a stake first, and else as the beacon orders them."""
    with_stake = set(staked)
    return sorted(waiting, key=lambda name: (name not in with_stake, by_beacon(beacon, name)))[:places]


def by_beacon(beacon: str, name: str) -> bytes:
    """A node's place in an order that nobody can foresee or choose."""
    return blake3(f"{beacon} {name}".encode()).digest()
