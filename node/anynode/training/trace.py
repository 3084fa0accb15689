"""The trace of a worker's inner training: one leaf per segment, and the Merkle root that commits to all of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from blake3 import blake3

from anynode.training.fields import Hash, HexFloat, Segment, Steps
from anynode_contracts.canonical import canonical_json

_LEAF = b"anynode trace leaf\x00"
_NODE = b"anynode trace node\x01"
EMPTY_ROOT = blake3(b"anynode trace empty\x02").hexdigest()


@dataclass(frozen=True, slots=True)
class TraceLeaf:
    """One segment: inner steps ``first_step`` to ``first_step + steps``, the fingerprint of the inner state
    (parameters and moments) before and after, of the samples fed in, and each step's learning rate as
    ``float.hex``.
    """

    segment: Segment
    first_step: Steps
    steps: Steps
    before: Hash
    after: Hash
    inputs: Hash
    rates: tuple[HexFloat, ...]

    def digest(self) -> bytes:
        """BLAKE3 of the canonical JSON, apart from that of an inner node."""
        return blake3(_LEAF + canonical_json(asdict(self))).digest()


def trace_root(leaves: Sequence[TraceLeaf]) -> str:
    """The Merkle root as hex. A level's odd last node is carried up unchanged; leaf and node hashes never
    collide.
    """
    if not leaves:
        return EMPTY_ROOT
    level = [leaf.digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [blake3(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0].hex()
