"""Dealing samples to slots: a keyed permutation of the data set, dealt from the pool in an order nobody can choose.

A *position* counts samples over all passes: position ``p`` is element ``p % n`` of the permutation of pass
``p // n``. The pool of a round is what earlier rounds returned, then the positions from the cursor on.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from anynode.rounds.ids import Range
from anynode_contracts.errors import invariant

_FEISTEL_ROUNDS = 6


def work_seed(job_id: str, round_: int, beacon: str) -> str:
    """H(job, round, beacon): fixed for a round, unknown before its beacon (a block hash)."""
    return blake3(f"anynode work {job_id} {round_} {beacon}".encode()).hexdigest()


def take(cursor: int, returned: Sequence[Range], samples: int) -> tuple[tuple[Range, ...], int, tuple[Range, ...]]:
    """Take ``samples`` positions from the pool: ``(ranges taken, new cursor, ranges still returned)``."""
    taken: list[Range] = []
    left = list(returned)
    need = samples
    while need and left:
        start, end = left.pop(0)
        cut = min(end, start + need)
        taken.append((start, cut))
        need -= cut - start
        if cut < end:
            left.insert(0, (cut, end))
    if need:
        taken.append((cursor, cursor + need))
        cursor += need
    return tuple(taken), cursor, tuple(left)


def deal(pool: Sequence[Range], samples_by_slot: Sequence[int], seed: str) -> tuple[tuple[Range, ...], ...]:
    """Split the pool among the slots, in the order in which ``seed`` shuffles them.

    ``pool`` holds exactly ``sum(samples_by_slot)`` positions. Returns the ranges of each slot, by slot.
    """
    size = sum(end - start for start, end in pool)
    invariant(size == sum(samples_by_slot), "the pool must hold exactly the samples that are dealt")
    order = sorted(range(len(samples_by_slot)), key=lambda slot: blake3(f"{seed} {slot}".encode()).digest())
    dealt: list[tuple[Range, ...]] = [()] * len(samples_by_slot)
    pieces = iter(pool)
    start, end = 0, 0
    for slot in order:
        taken: list[Range] = []
        need = samples_by_slot[slot]
        while need:
            if start == end:
                start, end = next(pieces)
            cut = min(end, start + need)
            taken.append((start, cut))
            need -= cut - start
            start = cut
        dealt[slot] = tuple(taken)
    return tuple(dealt)


def undone(ranges: Sequence[Range], samples_done: int) -> tuple[Range, ...]:
    """What is left of a slot's ranges after a prefix of ``samples_done`` samples: it goes back to the pool."""
    _, _, left = take(0, ranges, min(samples_done, sum(end - start for start, end in ranges)))
    return left


def merge(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Sort ranges and join neighbours, so that equal pools have equal bytes."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def sample_indices(job_id: str, ranges: Sequence[Range], data_samples: int) -> list[int]:
    """The data set's sample numbers at the given positions, in order."""
    return [
        permuted(job_id, position // data_samples, position % data_samples, data_samples)
        for start, end in ranges
        for position in range(start, end)
    ]


def permuted(job_id: str, pass_: int, element: int, size: int) -> int:
    """Element ``element`` of the keyed permutation of ``range(size)`` for one pass over the data.

    A balanced Feistel network over the next even number of bits, walked until it lands inside the range
    (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    value = element
    while True:
        left, right = value >> half_bits, value & mask
        for turn in range(_FEISTEL_ROUNDS):
            key = blake3(f"anynode permutation {job_id} {pass_} {turn} {right}".encode()).digest()
            left, right = right, left ^ (int.from_bytes(key[:8], "little") & mask)
        value = (left << half_bits) | right
        if value < size:
            return value
