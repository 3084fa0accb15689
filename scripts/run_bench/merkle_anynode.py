"""AnyNode's side of the benchmark `merkle`: a line on stdin asks for something, a line of JSON answers."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from anynode_contracts.entries import Entry
from anynode_contracts.merkle import MerkleTree, domain, hash_pair, keccak, leaf
from anynode_contracts.tree_file import TreeFile, write_tree

SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC8341082276B
DOMAIN = domain(1, "0x" + "11" * 20)


def miner(position: int) -> Entry:
    """Index, payout account and cumulative gwei of a miner, the same on both sides."""
    index = position + 1
    return Entry(index, f"0x{index * SPREAD % 2**160:040x}", index * 1_000_003)


def tree(path: str, count: str) -> dict[str, object]:
    miners = [miner(position) for position in range(int(count))]
    began = time.perf_counter()
    root = write_tree(Path(path), DOMAIN, miners).root
    return {"root": f"0x{root.hex()}", "seconds": time.perf_counter() - began, "peak_mib": _peak_mib()}


def proofs(path: str, first: str, end: str) -> dict[str, object]:
    with TreeFile(Path(path)) as file:
        began = time.perf_counter()
        for position in range(int(first), int(end)):
            file.prove(position + 1)
        return {"seconds": time.perf_counter() - began, "peak_mib": _peak_mib()}


def leaves(count: str) -> dict[str, object]:
    """The leaves of a full tree, and its root."""
    made = [leaf(DOMAIN, keccak(bytes([number % 256, number // 256]))) for number in range(int(count))]
    return {"leaves": [f"0x{item.hex()}" for item in made], "root": f"0x{MerkleTree(made).root.hex()}"}


def standard(count: str) -> dict[str, object]:
    """The root in OpenZeppelin's own format: double-hashed ABI encoding, sorted leaves, from the end of a heap."""
    encoded = []
    for position in range(int(count)):
        entry = miner(position)
        words = (entry.index, int(entry.account, 16), entry.cumulative_gwei)
        encoded.append(keccak(keccak(b"".join(word.to_bytes(32, "big") for word in words))))
    nodes = [b""] * (len(encoded) - 1) + sorted(encoded, reverse=True)
    for place in range(len(encoded) - 2, -1, -1):
        nodes[place] = hash_pair(nodes[2 * place + 1], nodes[2 * place + 2])
    return {"root": f"0x{nodes[0].hex()}"}


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


ANSWERS: dict[str, Callable[..., dict[str, object]]] = {
    "tree": tree,
    "proofs": proofs,
    "leaves": leaves,
    "standard": standard,
}

if __name__ == "__main__":
    for line in sys.stdin:
        what, *words = line.split()
        print(json.dumps(ANSWERS[what](*words)), flush=True)
