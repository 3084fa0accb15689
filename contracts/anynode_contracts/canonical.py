"""Canonical JSON (RFC 8785 for the subset used here): the one byte string of a value, so that it can be hashed.

And how JSON from outside is read: `parse_json` refuses deep nesting whatever the interpreter's recursion limit.
"""

from __future__ import annotations

import json
from typing import Any

from blake3 import blake3
from pydantic_core import from_json


def canonical_json(value: Any) -> bytes:
    """UTF-8 bytes of ``value`` with sorted keys and no white space. Floats are refused: they have many spellings.

    Raises ``TypeError`` for a float or a type that JSON does not know.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(data: bytes) -> Any:
    """The value of JSON that came from outside. Raises ``ValueError``, also for NaN and for nesting beyond 200 levels.

    ``json.loads`` relies on the recursion limit for that, which a library below web3 raises to 100,000 when it is
    imported: a few kilobytes of brackets would then overrun the stack and end the process.
    """
    return from_json(data, allow_inf_nan=False)


def hash_hex(data: bytes | memoryview) -> str:
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
