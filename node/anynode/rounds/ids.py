"""The types of names and numbers in the round protocol, with the limits that outside values must keep."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, MaxLen
from pydantic import StringConstraints

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A BLAKE3 hash or job id: 64 lower-case hexadecimal digits."""

Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
"""A node key's or wallet's address, with its EIP-55 checksum."""

Signature = Annotated[str, StringConstraints(pattern=r"^(0x[0-9a-f]{130})?$")]
"""65 bytes r, s, v in hexadecimal, or empty where a message has not been signed yet."""

PeerId = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{20,64}$")]
"""A libp2p peer id in base58."""

Line = Annotated[str, MaxLen(500)]
"""One sentence for people."""

Round = Annotated[int, Ge(0), Le(2**48)]
Slot = Annotated[int, Ge(0), Le(100_000)]
Steps = Annotated[int, Ge(0), Le(1_000_000)]
Samples = Annotated[int, Ge(0), Le(2**40)]
Chunk = Annotated[int, Ge(0), Le(1 << 20)]
Attempt = Annotated[int, Ge(0), Le(1000)]
Height = Annotated[int, Ge(0), Le(2**48)]
Seconds = Annotated[int, Ge(0), Le(1_000_000)]
Position = Annotated[int, Ge(0), Le(2**62)]
Range = tuple[Position, Position]
"""Positions ``start <= p < end`` in the keyed permutation, counted over all passes."""
