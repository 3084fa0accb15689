"""Which work is audited: a draw that nobody can foresee and everybody can repeat. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from blake3 import blake3

from anynode.rounds.records import Record, Verdict


def audit_seed(secret: str, block_hash: str) -> bytes:
    """H(secret, block hash): the secret was committed to before the block existed (protocol.md, step 7)."""
    return blake3(f"anynode audit {secret} {block_hash}".encode()).digest()


def draw(seed: bytes, slots: Iterable[int], rate_of_slot: Mapping[int, float]) -> tuple[int, ...]:
    """The slots to audit: each by itself, with its own probability in [0, 1]."""
    return tuple(slot for slot in sorted(slots) if _uniform(seed, slot) < rate_of_slot[slot])


def accepted_audits(records: Iterable[Record]) -> dict[str, int]:
    """How many accepted audits each node has had since its last failure."""
    counts: dict[str, int] = {}
    for record in records:
        if isinstance(record.body, Verdict):
            for item in record.body.judged:
                if not item.accepted:
                    counts[item.node] = 0
                elif item.audited:
                    counts[item.node] = counts.get(item.node, 0) + 1
    return counts


def audit_rate(accepted: int, floor: float) -> float:
    """1 for a newcomer, falling with each accepted audit to ``floor``."""
    return max(floor, 1.0 / (1 + accepted))


def _uniform(seed: bytes, slot: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (int.from_bytes(blake3(seed + slot.to_bytes(8, "little")).digest()[:8], "little") >> 11) / 2**53
