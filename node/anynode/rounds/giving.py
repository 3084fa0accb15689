"""Whether a reducer from which nobody gets what it has averaged withholds it, or has gone. Pure: auditors count alike.

A reducer that keeps silent about what only it holds would hide a wrong sum behind it. But it may also have died. What
tells the two apart is the work that it goes on to do: who trains in round after round, and gives nothing while it is
asked for it all along, withholds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anynode.rounds.course import Seal

ASKED_ROUNDS = 4
"""So many further rounds are sealed until it is settled what becomes of a chunk that nobody gives: who comes back
within them has lost nothing.
"""
SHOWN_ROUNDS = 3
"""A reducer withholds that has worked in so many of them."""
GIVE_S = 40.0
"""And so long after the close of its round, also where the job is over: a process that has died is back by then, and
members stay a little longer.
"""
LOOKS_MIN = 3
"""And it was asked so many times: a look may last through several rounds, and a process may have been dead at its one
moment.
"""
LOOK_S_MIN = 60.0
SEALS_KEPT = 32
ASK_PAUSE_S = 5.0


def look_s(round_s: float) -> float:
    """How long one look may take at what was averaged in a round that may last ``round_s``: who has sent its own chunks
    to everybody in that time can send as much of what it has averaged. What has come by then is not asked for again.
    """
    return max(LOOK_S_MIN, round_s)


def is_settled(round_: int, seals: Sequence[Seal]) -> bool:
    """Whether reducers of ``round_`` have been asked through enough rounds; ``seals`` are the newest, in order."""
    return bool(seals) and seals[-1].round >= round_ + ASKED_ROUNDS


def is_at_work(node: str, round_: int, seals: Sequence[Seal]) -> bool:
    """Whether sealed work shows that ``node`` has been there since it has reduced in ``round_``, and still is."""
    shown = worked_in(node, round_, seals)
    return len(shown) >= SHOWN_ROUNDS and shown[-1] == seals[-1].round


def withholds(node: str, round_: int, seals: Sequence[Seal], in_vain: Collection[int]) -> bool:
    """Whether ``node`` has worked in enough rounds in which it was asked ``in_vain`` while they were worked in."""
    shown = [number for number in worked_in(node, round_, seals) if number in in_vain]
    return len(shown) >= SHOWN_ROUNDS and is_at_work(node, round_, seals)


def worked_in(node: str, round_: int, seals: Sequence[Seal]) -> list[int]:
    """The rounds after ``round_`` for which work of ``node`` is sealed."""
    later = (seal for seal in seals if seal.round > round_)
    return [seal.round for seal in later if any(item.node == node for item in seal.commitments)]
