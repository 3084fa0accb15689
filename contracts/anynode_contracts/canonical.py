"""Canonical JSON (RFC 8785 for the subset used here): the one byte string of a value, so that it can be hashed."""

from __future__ import annotations

import json
from typing import Any

from blake3 import blake3


def canonical_json(value: Any) -> bytes:
    """UTF-8 bytes of ``value`` with sorted keys and no white space. Floats are refused: they have many spellings.

    Raises ``TypeError`` for a float or a type that JSON does not know.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_hex(data: bytes) -> str:
    """BLAKE3 of ``data`` as 64 lower-case hexadecimal digits."""
    return blake3(data).hexdigest()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("canonical JSON holds no floats; write the number as an integer or a string")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError("canonical JSON has string keys only")
            _refuse_floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_floats(item)
