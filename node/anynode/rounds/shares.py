"""Who reduces which chunks: shares by measured rate, and a witness for each reducer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blake3 import blake3

from anynode.rounds.records import Reducer


def share(free: Sequence[int], kept: Mapping[int, int], rates: Mapping[int, float], seed: str) -> tuple[Reducer, ...]:
    """Give each of the ``free`` chunks to one of the slots in ``rates``; ``kept`` are the chunks that have their slot.

    ``rates`` are in chunks per second, 0 where it is not known yet. Shares are in proportion to them, by the method of
    largest remainders; who has not been measured counts as the median of those who have. ``seed`` decides who gets the
    odd ones, and so who reduces at all when there are fewer chunks than slots, and draws the witnesses. Runs of chunks
    stay together. Without rates nobody reduces.
    """
    if not rates:
        return ()
    order = sorted({*rates, *kept.values()}, key=lambda slot: blake3(f"{seed} {slot}".encode()).digest())
    slots = [slot for slot in order if slot in rates]
    counts = _counts(len(free), [rates[slot] for slot in slots])
    owners = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
    owner = dict(zip(sorted(free), owners, strict=True)) | dict(kept)
    witness = _witnesses(order, slots)
    return tuple(Reducer(chunk, owner[chunk], witness[owner[chunk]]) for chunk in sorted(owner))


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


def _counts(total: int, rates: Sequence[float]) -> list[int]:
    known = sorted(rate for rate in rates if rate > 0)
    middle = known[(len(known) - 1) // 2] if known else 1.0
    weights = [rate if rate > 0 else middle for rate in rates]
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [int(part) for part in exact]
    odd = sorted(range(len(rates)), key=lambda place: (counts[place] - exact[place], place))
    for place in odd[: total - sum(counts)]:
        counts[place] += 1
    return counts
