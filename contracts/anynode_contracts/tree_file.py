"""A reward tree as a file: every proof is read from it by node index, and nothing of it is held in memory.

``tree 1`` in eight bytes, the leaves' number (8), the domain (32), the entries' words by ascending index, then the
nodes level by level, leaves first, 32 bytes each. The operating system reads and forgets the pages that are asked for.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from anynode_contracts.entries import WORD_BYTES, Entry, pack
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside
from anynode_contracts.merkle import HASH_BYTES, MerkleTree, build_tree, leaf, stored_nodes, verify

_MAGIC = b"tree 1\0\0"
_SIZE_BYTES = 8
_HEADER_BYTES = len(_MAGIC) + _SIZE_BYTES + HASH_BYTES
_INDEX_BYTES = 4


@dataclass(frozen=True, slots=True)
class Proof:
    """That ``word`` is an entry of the tree: its leaf and the siblings up to the root."""

    word: bytes
    leaf: bytes
    siblings: list[bytes]


def write_tree(path: Path, domain_hash: bytes, entries: Sequence[Entry]) -> MerkleTree:
    """Build the tree of a batch and write its file aside, then rename it. Raises as ``build_tree`` does."""
    tree = build_tree(domain_hash, entries)
    header = _MAGIC + tree.size.to_bytes(_SIZE_BYTES, "big") + domain_hash
    words = b"".join(map(pack, entries))
    write_aside(path, header, words, *tree.levels)
    return tree


class TreeFile:
    """An open tree file, and a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        """Raises ``UserError`` if the file is missing, cut off or something else."""
        remedy = "remove it, and it is made again from the ledger"
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UserError(f"the reward tree {path} cannot be read ({error}); {remedy}") from error
        header = self._map[:_HEADER_BYTES]
        self.size = int.from_bytes(header[len(_MAGIC) : len(_MAGIC) + _SIZE_BYTES], "big")
        self.domain = header[-HASH_BYTES:]
        self._nodes_at = _HEADER_BYTES + self.size * WORD_BYTES
        whole = self.size and self._nodes_at + sum(stored_nodes(self.size)) * HASH_BYTES
        if not header.startswith(_MAGIC) or len(self._map) != whole:
            self._map.close()
            raise UserError(f"{path} is no whole reward tree; {remedy}")
        self._view = memoryview(self._map)
        self._tree = MerkleTree.over(self.size, self._view[self._nodes_at :])
        self.root = self._tree.root
        self._first, self._last = (
            int.from_bytes(self._word(place)[:_INDEX_BYTES], "big") for place in (0, self.size - 1)
        )

    def prove(self, index: int) -> Proof | None:
        """The proof of node ``index``, checked against the root; None if the tree has no entry of it.

        Raises ``UserError`` if the file has been damaged since it was written.
        """
        wanted = index.to_bytes(_INDEX_BYTES, "big")
        # Indices ascend strictly: with few gaps, either end nearly tells the place. Words begin with their index, so
        # they are in the order of their bytes.
        low = max(0, self.size - 1 - max(0, self._last - index))
        high = min(self.size, max(0, index - self._first + 1))
        position = bisect_left(range(self.size), wanted, low, max(low, high), key=self._word)
        if position == self.size or not (word := self._word(position)).startswith(wanted):
            return None
        proof = Proof(word, leaf(self.domain, word), self._tree.proof(position))
        if not verify(self.root, proof.leaf, proof.siblings):
            raise UserError("a reward tree's file is damaged; remove it, and it is made again from the ledger")
        return proof

    def close(self) -> None:
        for level in self._tree.levels:
            if isinstance(level, memoryview):
                level.release()
        self._view.release()
        self._map.close()

    def __enter__(self) -> TreeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _word(self, position: int) -> bytes:
        start = _HEADER_BYTES + position * WORD_BYTES
        return self._map[start : start + WORD_BYTES]
