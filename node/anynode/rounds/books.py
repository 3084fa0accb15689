"""Closing the books of a round: how far the step count goes, and which samples return to the pool. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anynode.rounds.course import Assign, ChunkResult, Open, Seal
from anynode.rounds.deal import merge, undone
from anynode.rounds.ids import Range


@dataclass(frozen=True, slots=True)
class Books:
    """What follows from the updates that were included: inner steps, and the pool of the next round."""

    steps: int
    cursor: int
    returned: tuple[Range, ...]


def counted_samples(seal: Seal, assign: Assign) -> int:
    """The samples of a round that may be paid: those of every commitment, but for nodes that were excluded before. What
    is rejected with a fraud proof may yet be paid after an appeal.
    """
    appealable = (item.slot for item in assign.rejected if item.proof)
    counted = {*assign.accepted, *assign.weightless, *appealable}
    return sum(item.samples for item in seal.commitments if item.slot in counted)


def close_books(opened: Open, seal: Seal, chunks: Sequence[ChunkResult]) -> Books:
    """The step count advances by the sample-weighted mean of steps, rounded down; what nobody trained returns.

    In gradient mode (one inner step) a worker's steps are batches of one gradient, and the count advances by one.
    """
    included = {slot for entry in chunks for slot in entry.senders}
    commitments = {item.slot: item for item in seal.commitments}
    samples = sum(commitments[slot].samples for slot in included)
    weighted = sum(commitments[slot].samples * commitments[slot].steps for slot in included)
    back = list(opened.returned)
    for member in opened.members:
        done = commitments[member.slot].samples if member.slot in included else 0
        back.extend(undone(opened.ranges[member.slot], done))
    return Books(_steps(opened, weighted, samples), opened.cursor, merge(back))


def _steps(opened: Open, weighted: int, samples: int) -> int:
    if not samples:
        return 0
    return 1 if opened.inner_steps == 1 else weighted // samples
