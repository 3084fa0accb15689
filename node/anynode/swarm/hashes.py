"""Hashes in requests: the name of a blob or of a job, as 64 hexadecimal digits."""

from __future__ import annotations

import re

from anynode_contracts.errors import BreachError, Offence

HASH_HEX_BYTES = 64
_HASH = re.compile(rb"[0-9a-f]{64}")


def split_hash(request: bytes) -> tuple[str, bytes]:
    """The hash that a request begins with, and the rest. Raises ``BreachError`` if it begins with none."""
    if not _HASH.match(request):
        raise BreachError("a request names no hash of 64 hexadecimal digits; update AnyNode", Offence.SCHEMA)
    return request[:HASH_HEX_BYTES].decode("ascii"), request[HASH_HEX_BYTES:]


def parse_hash(request: bytes) -> str:
    """The hash that a request is. Raises ``BreachError`` if it is another thing."""
    digest, rest = split_hash(request)
    if rest:
        raise BreachError("a request holds more than a hash; update AnyNode", Offence.SCHEMA)
    return digest


def parse_hashes(request: bytes) -> list[str]:
    """The hashes that a request holds, one after the other, at least one. Raises ``BreachError`` for another thing."""
    first, rest = split_hash(request)
    found = [first]
    while rest:
        digest, rest = split_hash(rest)
        found.append(digest)
    return found
