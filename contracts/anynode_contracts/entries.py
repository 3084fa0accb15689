"""A reward entry as one 32-byte word: index (32 bits), account (160), cumulative gwei (64)."""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.address import to_checksum_address

GWEI = 10**9
WORD_BYTES = 32
ADDRESS_BYTES = 20
INDEX_MAX = 2**32 - 1
CUMULATIVE_GWEI_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What node ``index`` has earned since the beginning, in gwei, and the ``account`` that it is paid to."""

    index: int
    account: str
    cumulative_gwei: int


def pack(entry: Entry) -> bytes:
    """The entry's word, as ``RewardDistributor`` reads it. Raises ``ValueError`` if a field does not fit."""
    if not 0 <= entry.index <= INDEX_MAX:
        raise ValueError(f"index {entry.index} does not fit into 32 bits")
    if not 0 <= entry.cumulative_gwei <= CUMULATIVE_GWEI_MAX:
        raise ValueError(f"cumulative amount {entry.cumulative_gwei} gwei does not fit into 64 bits")
    account = bytes.fromhex(entry.account.removeprefix("0x"))
    if len(account) != ADDRESS_BYTES:
        raise ValueError(f"{entry.account!r} is not an address of {ADDRESS_BYTES} bytes")
    return entry.index.to_bytes(4, "big") + account + entry.cumulative_gwei.to_bytes(8, "big")


def unpack(word: bytes) -> Entry:
    """The inverse of :func:`pack`; the account comes back as a checksum address."""
    if len(word) != WORD_BYTES:
        raise ValueError(f"an entry has {WORD_BYTES} bytes, not {len(word)}")
    return Entry(
        index=int.from_bytes(word[:4], "big"),
        account=to_checksum_address(word[4:24]),
        cumulative_gwei=int.from_bytes(word[24:], "big"),
    )
