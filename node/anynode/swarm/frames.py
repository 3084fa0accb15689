"""Framing on a stream: a request frame there, an answer or error frame back, then the next request. An error ends it.

A frame is a kind byte, the payload's length as four big-endian bytes, and the payload. The length is checked against
the reader's limit before anything is read. An error frame's payload is canonical JSON with a code, one sentence and
how long to wait before another try.
"""

from __future__ import annotations

import asyncio
import enum
import re
import struct
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError

HEADER = struct.Struct(">BI")
FRAME_BYTES_MAX = 96 << 20
ERROR_BYTES_MAX = 4096
PART_BYTES = 1 << 16
SENTENCE_CHARS_MAX = 500
RETRY_AFTER_MS_MAX = 600_000

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\u1fff\u2010-\u2027\u2030-\u205f\u2070-\ud7ff]")


class Kind(enum.IntEnum):
    REQUEST = 1
    ANSWER = 2
    ERROR = 3


class Code(enum.StrEnum):
    """Why a request was refused, for programs; the sentence says it for people."""

    REFUSED = "refused"
    TOO_LARGE = "too-large"
    RATE_LIMITED = "rate-limited"
    BUSY = "busy"
    TIMED_OUT = "timed-out"
    FAULT = "fault"
    MALFORMED = "malformed"
    UNREADABLE = "unreadable"
    VERSION = "version"
    NOT_SERVED = "not-served"
    NETWORK = "network"
    IDENTITY = "identity"
    DROPPED = "dropped"


class PeerRefusedError(RefusedError):
    """A peer answered and said no, or broke the protocol. ``code`` is a :class:`Code`, or a newer peer's own word;
    ``retry_after_s`` is 0 unless the same request may succeed after that time."""

    def __init__(self, sentence: str, *, code: str, peer_id: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.code = code
        self.peer_id = peer_id
        self.retry_after_s = retry_after_s


class _ErrorBody(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    code: str = Field(pattern=r"^[a-z][a-z-]{0,31}$")
    retry_after_ms: int = Field(ge=0, le=RETRY_AFTER_MS_MAX)
    sentence: str = Field(max_length=SENTENCE_CHARS_MAX)


def frame(kind: Kind, payload: bytes) -> tuple[bytes, bytes]:
    """Header and payload, to be written one after the other without a copy."""
    return HEADER.pack(kind, len(payload)), payload


def error_payload(error: PeerRefusedError) -> bytes:
    retry_after_ms = min(int(error.retry_after_s * 1000), RETRY_AFTER_MS_MAX)
    sentence = one_sentence(str(error))
    return canonical_json({"code": str(error.code), "retry_after_ms": retry_after_ms, "sentence": sentence})


def parse_error(payload: bytes, peer_id: str) -> PeerRefusedError:
    """The error that a peer sent, its text made safe for a terminal and a log."""
    try:
        body = _ErrorBody.model_validate_json(payload)
    except ValidationError:
        return PeerRefusedError(
            f"peer {short(peer_id)} sent an unreadable error; try another peer", code=Code.UNREADABLE, peer_id=peer_id
        )
    return PeerRefusedError(
        one_sentence(body.sentence), code=body.code, peer_id=peer_id, retry_after_s=body.retry_after_ms / 1000
    )


async def read_frame(
    reader: asyncio.StreamReader, *, limit_bytes: int, heard: Callable[[], None] = lambda: None
) -> tuple[Kind, bytes]:
    """The next frame. Raises ``PeerRefusedError`` if it is malformed or its payload is over ``limit_bytes`` (error
    frames have their own limit), and ``EOFError`` if the stream ends before it does. ``heard`` is called whenever a
    part of it has come."""
    kind, size = await read_header(reader, limit_bytes=limit_bytes)
    heard()
    payload = bytearray()
    while len(payload) < size:
        part = await reader.read(min(size - len(payload), PART_BYTES))
        if not part:
            raise asyncio.IncompleteReadError(bytes(payload), size)
        payload += part
        heard()
    return kind, bytes(payload)


async def read_header(reader: asyncio.StreamReader, *, limit_bytes: int) -> tuple[Kind, int]:
    """The kind of the next frame and the bytes of its payload, which follow. Raises as :func:`read_frame`."""
    number, size = HEADER.unpack(await reader.readexactly(HEADER.size))
    try:
        kind = Kind(number)
    except ValueError as error:
        raise PeerRefusedError("the stream holds no frame; update AnyNode", code=Code.MALFORMED) from error
    limit = ERROR_BYTES_MAX if kind is Kind.ERROR else limit_bytes
    if size > limit:
        raise PeerRefusedError(
            f"a message of {size} bytes is over the limit of {limit}; send it in smaller parts", code=Code.TOO_LARGE
        )
    return kind, size


def one_sentence(text: str) -> str:
    """``text`` without control characters and bounded in length."""
    clean = _UNPRINTABLE.sub(" ", text)
    return clean if len(clean) <= SENTENCE_CHARS_MAX else clean[: SENTENCE_CHARS_MAX - 1] + "…"


def short(peer_id: str) -> str:
    """The end of a peer id: enough for people to tell peers apart."""
    return f"…{peer_id[-8:]}"
