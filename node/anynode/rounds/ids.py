"""The types of names and numbers in the round protocol, with the limits that outside values must keep."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, MaxLen
from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, StringConstraints


def _checksummed(value: str) -> str:
    if not is_checksum_address(value):
        raise ValueError("not an address with its EIP-55 checksum")
    return value


Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A BLAKE3 hash or job id: 64 lower-case hexadecimal digits."""

Secret = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
"""An audit secret, or empty where it is withheld."""

Proof = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
"""The hash of a fraud proof, or empty where there is none."""
Thresholds = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
"""The hash of frozen thresholds, or empty where there are none."""

Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_checksummed)]
"""A node key's or wallet's address, with its EIP-55 checksum: one key has one spelling, so a ban cannot be respelt."""

Owner = Annotated[str, StringConstraints(pattern=r"^(0x[0-9a-fA-F]{40})?$")]
"""The account that a node's pay goes to, or empty where the chain does not know it yet."""

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
MicroBatch = Annotated[int, Ge(1), Le(65_536)]
"""Samples of one forward and backward pass: a replay needs it, because sums depend on it."""
Attempt = Annotated[int, Ge(0), Le(1000)]
Height = Annotated[int, Ge(0), Le(2**48)]
View = Annotated[int, Ge(0), Le(2**48)]
"""How often the duty to coordinate a job has moved on."""
Rate = Annotated[int, Ge(0), Le(1_000_000)]
"""A probability in parts per million."""
StateRound = Annotated[int, Ge(-1), Le(2**48)]
"""The round whose start state a member holds, -1 for none."""
Millijoule = Annotated[int, Ge(0), Le(2**62)]
"""Energy, 0 when not measured."""
Seconds = Annotated[int, Ge(0), Le(1_000_000)]
Milliseconds = Annotated[int, Ge(0), Le(1_000_000_000)]
Position = Annotated[int, Ge(0), Le(2**62)]
Range = tuple[Position, Position]
"""Positions ``start <= p < end`` in the keyed permutation, counted over all passes."""
