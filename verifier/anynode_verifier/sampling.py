"""Which work is audited: a draw that nobody can foresee and everybody can repeat. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from blake3 import blake3

from anynode.rounds.course import Open, Result, Seal
from anynode.rounds.reductions import chunk_rates_ppm
from anynode.rounds.standing import EVERY_TIME_PPM


def audit_seed(secret: str, block_hash: str) -> bytes:
    """H(secret, block hash): the secret was committed to before the block existed (docs/design.md, Audits)."""
    return blake3(f"anynode audit {secret} {block_hash}".encode()).digest()


def draw(seed: bytes, rate_ppm_of: Mapping[int, int]) -> tuple[int, ...]:
    """The slots (or chunks) to audit: each by itself, with its own probability in parts per million."""
    return tuple(number for number, rate_ppm in sorted(rate_ppm_of.items()) if _falls_below(seed, number, rate_ppm))


def drawn_of(seal: Seal, secret: str, block_hash: str) -> frozenset[int]:
    """The slots that the draw of a sealed round names, whether or not they need it."""
    rates = {item.slot: rate_ppm for item, rate_ppm in zip(seal.commitments, seal.rates_ppm, strict=True)}
    return frozenset(draw(audit_seed(secret, block_hash), rates))


def drawn_chunks(opened: Open, seal: Seal, result: Result, secret: str, block_hash: str) -> tuple[int, ...]:
    """The averaged chunks of a round that the draw names."""
    seed = blake3(audit_seed(secret, block_hash) + b" chunks").digest()
    return draw(seed, chunk_rates_ppm(opened, seal, result))


def _falls_below(seed: bytes, number: int, rate_ppm: int) -> bool:
    """Whether 64 random bits, as a fraction of 2^64, are below the rate: in whole numbers, so that all agree."""
    chance = int.from_bytes(blake3(seed + number.to_bytes(8, "little")).digest()[:8], "little")
    return chance * EVERY_TIME_PPM < rate_ppm << 64
