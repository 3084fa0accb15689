"""Frames on the trainer's pipe: a length of 4 bytes, big endian, then that many bytes of JSON."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import RefusedError

FRAME_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


def encode_frame(value: dict[str, Any]) -> bytes:
    """The frame of a JSON object. Raises ``ValueError`` for NaN or a frame over the limit."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(body)} bytes is over the limit")
    return _LENGTH.pack(len(body)) + body


def frame_length(head: bytes) -> int:
    """The length that ``LENGTH_BYTES`` bytes announce. Raises ``RefusedError`` over the limit."""
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_BYTES_MAX:
        raise RefusedError(f"a frame of {length} bytes is over the limit; restart the training process")
    return int(length)


def decode_frame(body: bytes) -> dict[str, Any]:
    """The JSON object in a frame. Raises ``RefusedError`` when it is not one."""
    try:
        value = parse_json(body)
    except ValueError as error:
        raise RefusedError("a frame is not JSON; restart the training process") from error
    if not isinstance(value, dict):
        raise RefusedError("a frame is not a JSON object; restart the training process")
    return value


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame of a blocking stream, or ``None`` where it ends."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = frame_length(head)
    body = stream.read(length)
    return decode_frame(body) if len(body) == length else None
