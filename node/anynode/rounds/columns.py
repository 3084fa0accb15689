"""Columns of packed records, there and back: runs of numbers, tables of repeated values, bytes in a row. Pure.

What unpacks raises ``ValueError``, ``TypeError`` or ``LookupError`` for bytes that no packer made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from eth_utils.address import to_checksum_address

from anynode.rounds.ids import Range

_BLOCK_HASH = re.compile(r"0x[0-9a-f]{64}")
HASH_BYTES, SIGNATURE_BYTES, ADDRESS_BYTES, RATE_BYTES = 32, 65, 20, 3


def runs(numbers: Iterable[int]) -> list[int]:
    """An ascending list as gaps and lengths: ``[gap, length, gap, length, ...]``."""
    found: list[int] = []
    end = 0
    for number in numbers:
        if found and number == end:
            found[-1] += 1
        else:
            found += [number - end, 1]
        end = number + 1
    return found


def column(values: Sequence[Any]) -> list[Any]:
    """A column in which few values repeat: the values, and runs of their places in that list."""
    table = list(dict.fromkeys(values))
    place = {value: number for number, value in enumerate(table)}
    return [table, [number for key, run in groupby(values) for number in (place[key], len(list(run)))]]


def text(value: str) -> bytes | str:
    """A block hash as its bytes; any other text as it is."""
    data = bytes.fromhex(value[2:]) if _BLOCK_HASH.fullmatch(value) else b""
    return data or value


def flat(ranges: Iterable[Range]) -> list[int]:
    return [position for pair in ranges for position in pair]


def tuples(flat: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    """Whole numbers in groups of ``width``."""
    if len(flat) % width or any(type(number) is not int for number in flat):
        raise ValueError("numbers")
    return zip(*(iter(flat),) * width, strict=True)


def cut(data: bytes, size: int) -> list[str]:
    if type(data) is not bytes or len(data) % size:
        raise ValueError("bytes")
    return [data[start : start + size].hex() for start in range(0, len(data), size)]


def addresses(data: bytes) -> Iterator[str]:
    return (to_checksum_address("0x" + item) for item in cut(data, ADDRESS_BYTES))


def plain(value: bytes | str) -> str:
    return "0x" + hexadecimal(value, HASH_BYTES) if isinstance(value, bytes) else value


def hexadecimal(data: bytes, size: int) -> str:
    if type(data) is not bytes or len(data) != size:
        raise ValueError("bytes")
    return data.hex()
