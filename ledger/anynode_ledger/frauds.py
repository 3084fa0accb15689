"""What the contract takes as proof that a waiting root is wrong, found in the published entries. Pure.

A root that lowers what an index has earned, or names an index twice, follows from no ledger. Other wrongs, such as a
credit that nobody has earned, are found by rebuilding, and are the guardian's to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anynode_contracts.clients import ProvenEntry
from anynode_contracts.entries import Entry, pack
from anynode_contracts.merkle import MerkleTree, leaf


@dataclass(frozen=True, slots=True)
class Fraud:
    """Two entries of one index. Of a decrease the first is in the active root, all others are in the waiting one."""

    kind: Literal["decrease", "duplicate"]
    index: int
    first: ProvenEntry
    second: ProvenEntry


def tree_of(domain_hash: bytes, entries: Sequence[Entry]) -> MerkleTree:
    """The tree over entries in the order in which they are published, whatever that is: a liar's may be any."""
    return MerkleTree(leaf(domain_hash, pack(entry)) for entry in entries)


def find_fraud(domain_hash: bytes, active: Sequence[Entry], waiting: Sequence[Entry]) -> Fraud | None:
    """The first fraud of the root over ``waiting``, which should follow the one over ``active``; None without any."""
    found = _duplicate(waiting)
    kind: Literal["decrease", "duplicate"] = "duplicate"
    former = waiting
    if found is None:
        found, kind, former = _decrease(active, waiting), "decrease", active
    if found is None:
        return None
    first, second = found
    before, after = tree_of(domain_hash, former), tree_of(domain_hash, waiting)
    return Fraud(
        kind,
        waiting[second].index,
        ProvenEntry(pack(former[first]), tuple(before.proof(first))),
        ProvenEntry(pack(waiting[second]), tuple(after.proof(second))),
    )


def _duplicate(entries: Sequence[Entry]) -> tuple[int, int] | None:
    """The places of two different entries of one index."""
    places: dict[int, int] = {}
    for place, entry in enumerate(entries):
        first = places.setdefault(entry.index, place)
        if entries[first] != entry:
            return first, place
    return None


def _decrease(active: Sequence[Entry], waiting: Sequence[Entry]) -> tuple[int, int] | None:
    """The places of an index's entries of which the second has earned less."""
    places = {entry.index: place for place, entry in enumerate(active)}
    for place, entry in enumerate(waiting):
        first = places.get(entry.index)
        if first is not None and entry.cumulative_gwei < active[first].cumulative_gwei:
            return first, place
    return None
