"""The Merkle tree of a reward batch: domain-bound double-hashed leaves, sorted pairs, padded with zero leaves.

Agrees with ``RewardDistributor`` and with OpenZeppelin's ``MerkleProof``. A tree of n leaves has 64 bytes per leaf:
the padding is never stored, because the root of an all-zero subtree depends on its height alone. The nodes lie in
memory while a tree is built; proofs can be read from wherever they were written to (``tree_file``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Self

from eth_utils.address import to_canonical_address
from sha3 import keccak_256

from anynode_contracts.entries import Entry, pack

HASH_BYTES = 32
ZERO_LEAF = bytes(HASH_BYTES)
#: More leaves than node indices exist are a fault.
LEAVES_MAX = 2**32


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it, which is not SHA3-256: the padding differs."""
    digest: bytes = keccak_256(data).digest()
    return digest


def domain(chain_id: int, distributor: str) -> bytes:
    """``keccak(chain id ‖ distributor)``, each as a 32-byte word: no proof works elsewhere."""
    return keccak(chain_id.to_bytes(32, "big") + to_canonical_address(distributor).rjust(32, b"\0"))


def leaf(domain_hash: bytes, word: bytes) -> bytes:
    """``keccak(keccak(domain ‖ entry))``. A leaf hashes 32 bytes and a node 64, so neither passes for the other."""
    return keccak(keccak(domain_hash + word))


def hash_pair(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes, smaller one first."""
    return keccak(left + right if left < right else right + left)


@cache
def zero_root(height: int) -> bytes:
    """The root of 2^height zero leaves."""
    if height == 0:
        return ZERO_LEAF
    below = zero_root(height - 1)
    return hash_pair(below, below)


class MerkleTree:
    """A tree over ``leaves`` (32 bytes each), padded with zero leaves to a power of two."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        """Raises ``ValueError`` without leaves or for a leaf that has not 32 bytes."""
        bottom = bytearray()
        for item in leaves:
            if len(item) != HASH_BYTES:
                raise ValueError(f"a leaf has {HASH_BYTES} bytes, not {len(item)}")
            bottom += item
        self.size = len(bottom) // HASH_BYTES
        if not 0 < self.size <= LEAVES_MAX:
            raise ValueError(f"a tree has 1 to {LEAVES_MAX} leaves, not {self.size}")
        self.height = (self.size - 1).bit_length()
        #: Level k holds the stored nodes of height k, 32 bytes each; what is missing on the right is padding.
        self.levels: list[bytearray | memoryview] = [bottom]
        for height in range(self.height):
            self.levels.append(_level_above(self.levels[-1], zero_root(height)))

    @classmethod
    def over(cls, size: int, nodes: memoryview) -> Self:
        """The tree of ``size`` leaves whose levels, the leaves first, lie one after the other in ``nodes``."""
        tree = cls.__new__(cls)
        tree.size, tree.height, tree.levels = size, (size - 1).bit_length(), []
        start = 0
        for stored in stored_nodes(size):
            tree.levels.append(nodes[start : start + stored * HASH_BYTES])
            start += stored * HASH_BYTES
        return tree

    @property
    def root(self) -> bytes:
        return bytes(self.levels[-1])

    def node(self, height: int, position: int) -> bytes:
        """The root of the aligned block of 2^height leaves that starts at leaf ``position * 2^height``."""
        if not (0 <= height <= self.height and 0 <= position < 1 << (self.height - height)):
            raise IndexError(f"the tree has no node {position} at height {height}")
        start = position * HASH_BYTES
        return bytes(self.levels[height][start : start + HASH_BYTES]) or zero_root(height)

    def proof(self, position: int) -> list[bytes]:
        """Sibling hashes from the leaf at ``position`` to the root."""
        return self.subtree_proof(0, position)

    def subtree_proof(self, height: int, position: int) -> list[bytes]:
        """Sibling hashes from :meth:`node` ``(height, position)`` to the root, as ``claimSubtree`` takes them."""
        self.node(height, position)
        proof = []
        for level in range(height, self.height):
            start = (position ^ 1) * HASH_BYTES
            proof.append(bytes(self.levels[level][start : start + HASH_BYTES]) or zero_root(level))
            position >>= 1
        return proof


def stored_nodes(size: int) -> list[int]:
    """How many nodes each level of a tree of ``size`` leaves stores, from the leaves to the root."""
    levels = [size]
    while levels[-1] > 1:
        levels.append((levels[-1] + 1) // 2)
    return levels


def build_tree(domain_hash: bytes, entries: Sequence[Entry]) -> MerkleTree:
    """The tree of a batch. Raises ``ValueError`` unless the entries ascend strictly by index."""
    for former, later in pairwise(entries):
        if former.index >= later.index:
            raise ValueError(f"entries ascend by index, but {later.index} follows {former.index}")
    return MerkleTree(leaf(domain_hash, pack(entry)) for entry in entries)


def verify(root: bytes, leaf_hash: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` leads from the leaf (or a subtree's root) to ``root``."""
    node = leaf_hash
    for sibling in proof:
        node = keccak_256(node + sibling if node < sibling else sibling + node).digest()
    return node == root


def _level_above(level: bytearray | memoryview, padding: bytes) -> bytearray:
    """The parents of a level; an odd last node is paired with ``padding``."""
    below = bytes(level)
    above = bytearray()
    for start in range(0, len(below), 2 * HASH_BYTES):
        left = below[start : start + HASH_BYTES]
        right = below[start + HASH_BYTES : start + 2 * HASH_BYTES] or padding
        above += keccak_256(left + right if left < right else right + left).digest()
    return above
