"""An audit secret, the hash under which a round seals it, and the segments that it draws. Pure."""

from __future__ import annotations

from blake3 import blake3


def hash_of(secret: str) -> str:
    """What is sealed of a secret of hexadecimal digits."""
    return blake3(bytes.fromhex(secret)).hexdigest()


def opens(secret: str, secret_hash: str) -> bool:
    """Whether this is the secret that was sealed; an empty one is none."""
    return bool(secret) and hash_of(secret) == secret_hash


SEGMENTS_DRAWN = 2


def segment_seed(secret: str, block_hash: str) -> str:
    """What draws segments: like all draws of a round, nobody knows it before the work has been committed to, and a
    verdict reveals it. Before the exchange there is no ``block_hash`` yet.
    """
    return blake3(f"anynode segments {secret} {block_hash}".encode()).hexdigest()


def draw_segments(seed: str, slot: int, count: int) -> tuple[int, ...]:
    """The segments, of ``count``, of a slot's work that an audit within a tolerance replays."""
    order = sorted(range(count), key=lambda number: blake3(f"segment {seed} {slot} {number}".encode()).digest())
    return tuple(sorted(order[:SEGMENTS_DRAWN]))
