"""An audit secret and the hash under which a round seals it. Pure."""

from __future__ import annotations

from blake3 import blake3


def hash_of(secret: str) -> str:
    """What is sealed of a secret of hexadecimal digits."""
    return blake3(bytes.fromhex(secret)).hexdigest()


def opens(secret: str, secret_hash: str) -> bool:
    """Whether this is the secret that was sealed; an empty one is none."""
    return bool(secret) and hash_of(secret) == secret_hash
