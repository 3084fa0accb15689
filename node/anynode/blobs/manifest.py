"""The manifest of a blob: what it is, and the BLAKE3 hashes of its chunks. Its own hash is the blob's root."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from anynode_contracts.canonical import canonical_json, hash_hex, parse_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

CHUNK_BYTES_MAX = 1 << 20
CHUNKS_MAX = 1 << 20
MANIFEST_BYTES_MAX = 96 << 20

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """One chunk: its BLAKE3 hash (64 hex digits) and its size in bytes."""

    hash: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """``kind`` names the format ("file", "state", "update"), ``meta`` is its header (canonical JSON values)."""

    kind: str
    meta: dict[str, Any]
    chunks: tuple[ChunkRef, ...]

    @property
    def size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self.chunks)

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal manifests have equal bytes."""
        return canonical_json(
            {
                "chunks": [[chunk.hash, chunk.size_bytes] for chunk in self.chunks],
                "kind": self.kind,
                "meta": self.meta,
            }
        )

    @property
    def root(self) -> str:
        """BLAKE3 of the canonical bytes."""
        return hash_hex(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, root: str, kind: str) -> Manifest:
        """Parse bytes received from a peer. Raises ``RefusedError`` unless they are the manifest named ``root``."""
        if len(data) > MANIFEST_BYTES_MAX:
            raise BreachError(f"a manifest of {len(data)} bytes is over the limit; ask another peer", Offence.OVERSIZE)
        if hash_hex(data) != root:
            raise BreachError(f"the manifest does not hash to {root[:16]}…; ask another peer", Offence.HASH)
        try:
            raw = parse_json(data)
            chunks = tuple(_chunk(item) for item in raw["chunks"])
            manifest = cls(kind=str(raw["kind"]), meta=dict(raw["meta"]), chunks=chunks)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RefusedError(f"the manifest {root[:16]}… is malformed; ask another peer") from error
        if manifest.kind != kind or len(chunks) > CHUNKS_MAX:
            raise RefusedError(f"the manifest {root[:16]}… is not a {kind} within limits; ask another peer")
        return manifest


def cut(data: bytes | memoryview, size_bytes: int = CHUNK_BYTES_MAX) -> Iterable[memoryview]:
    """The consecutive chunks of ``data``, each ``size_bytes`` long but the last."""
    view = memoryview(data)
    for start in range(0, len(view), size_bytes):
        yield view[start : start + size_bytes]


def _chunk(item: Any) -> ChunkRef:
    digest, size = item
    if not (isinstance(digest, str) and _HASH.fullmatch(digest)):
        raise ValueError("chunk hash")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= CHUNK_BYTES_MAX:
        raise ValueError("chunk size")
    return ChunkRef(digest, size)
