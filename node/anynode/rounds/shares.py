"""Who reduces which chunks: shares by measured rate, and a witness for each reducer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blake3 import blake3

from anynode.rounds.course import Reducer

MEASURE_AGAIN_ROUNDS = 16
"""A rate that was measured so many rounds ago is no word on its reducer any more."""


def share(
    free: Sequence[int], kept: Mapping[int, int], rates: Mapping[int, float], seed: str, again: int | None = None
) -> tuple[Reducer, ...]:
    """Give each of the ``free`` chunks to one of the slots in ``rates``; ``kept`` are the chunks that have their slot.

    ``rates`` are in chunks per second, 0 where it is not known yet. Shares are in proportion to them as they count, by
    the method of largest remainders; slot ``again``, if there is one, gets a chunk however slow it was. ``seed``
    decides who gets the odd ones, and so who reduces at all when there are fewer chunks than slots, and draws the
    witnesses. Runs of chunks stay together. Without rates nobody reduces.
    """
    if not rates:
        return ()
    order = sorted({*rates, *kept.values()}, key=lambda slot: blake3(f"{seed} {slot}".encode()).digest())
    slots = [slot for slot in order if slot in rates]
    weights = counted_rates(rates)
    counts = _counts(len(free), [weights[slot] for slot in slots])
    if free and again is not None and not counts[place := slots.index(again)]:
        counts[counts.index(max(counts))] -= 1
        counts[place] = 1
    owners = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
    owner = dict(zip(sorted(free), owners, strict=True)) | dict(kept)
    witness = _witnesses(order, slots)
    return tuple(Reducer(chunk, owner[chunk], witness[owner[chunk]]) for chunk in sorted(owner))


def counted_rates(rates: Mapping[int, float]) -> dict[int, float]:
    """``rates`` as they count: who has not been measured is like the lower median of those who have."""
    known = sorted(rate for rate in rates.values() if rate > 0)
    middle = known[(len(known) - 1) // 2] if known else 1.0
    return {slot: rate if rate > 0 else middle for slot, rate in rates.items()}


def to_measure_again(rates: Mapping[int, float], measured: Mapping[int, int], round_: int) -> int | None:
    """The slot whose rate has not been measured for longest, in the rounds ``measured``, if that is too long."""
    due = [
        (measured[slot], slot)
        for slot, rate in rates.items()
        if rate > 0 and round_ - measured[slot] >= MEASURE_AGAIN_ROUNDS
    ]
    return min(due)[1] if due else None


def _witnesses(order: Sequence[int], able: Sequence[int]) -> dict[int, int]:
    """For each slot the next able one in a ring; itself where there is no other."""
    witness = {}
    among = set(able)
    follower = able[0]
    for slot in reversed(order):
        witness[slot] = follower
        if slot in among:
            follower = slot
    return witness


def _counts(total: int, weights: Sequence[float]) -> list[int]:
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [int(part) for part in exact]
    odd = sorted(range(len(weights)), key=lambda place: (counts[place] - exact[place], place))
    for place in odd[: total - sum(counts)]:
        counts[place] += 1
    return counts
