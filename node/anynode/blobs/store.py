"""The blob store: chunks and manifests on disk, named by their BLAKE3 hash, written aside and renamed.

A blob survives the death of any process as soon as it is stored, and a power cut once it is synced: whoever gives
others its word on some blobs (a state, a recorded result) syncs them first, many at a time. What a power cut damages is
found out by its hash, and fetched or computed again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest, cut
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError
from anynode_contracts.files import cannot_write, sync_folder, write_aside

SYNCS_AT_ONCE = 4
"""A file system writes its journal once for all syncs that wait for it."""

_HASH = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """Content-addressed files below ``folder``. Safe for several processes: a name always means the same bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the chunk or manifest ``digest`` lies. Raises ``RefusedError`` if it is not a hash."""
        if not _HASH.fullmatch(digest):
            raise RefusedError(f"{digest[:80]!r} is not a BLAKE3 hash; name a blob by its 64 hexadecimal digits")
        return self.folder / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def get(self, digest: str) -> bytes:
        """The bytes named ``digest``, checked. Raises ``RefusedError`` if they are missing or damaged."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise RefusedError(f"blob {digest[:16]}… is not here; fetch it from a peer that has it") from error
        if hash_hex(data) != digest:
            self.path(digest).unlink(missing_ok=True)
            raise RefusedError(f"blob {digest[:16]}… was damaged on disk and is removed; fetch it again")
        return data

    def put(self, data: bytes | memoryview) -> str:
        """Store ``data`` and return its hash. Storing the same bytes twice costs one look-up."""
        digest = hash_hex(data)
        self.keep(digest, data)
        return digest

    def keep(self, digest: str, data: bytes | memoryview) -> None:
        """Store ``data``, of which the caller knows that it hashes to ``digest``."""
        path = self.path(digest)
        if self._size_bytes(digest) == len(data):
            os.utime(path)  # it counts as new, so that nothing deletes it as old
        else:
            write_aside(path, data, durable=False)

    def sync(self, digests: Iterable[str]) -> None:
        """Make stored blobs durable. Raises ``StorageError`` when the disk fails, ``RefusedError`` for one that is
        missing.
        """
        wanted = list(digests)
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            for _ in pool.map(self._sync, wanted):
                pass
            for _ in pool.map(self._sync_folder, {self.path(digest).parent for digest in wanted}):
                pass

    def sync_blob(self, root: str, kind: str) -> None:
        """Make a stored blob durable: its chunks, then its manifest. Raises as `sync`."""
        self.sync(chunk.hash for chunk in self.manifest(root, kind).chunks)
        self.sync([root])

    def _sync(self, digest: str) -> None:
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except FileNotFoundError as error:
            raise RefusedError(f"blob {digest[:16]}… is not here; fetch it from a peer that has it") from error
        except OSError as error:
            raise cannot_write(path, error) from error

    def _sync_folder(self, folder: Path) -> None:
        try:
            sync_folder(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def put_manifest(self, manifest: Manifest) -> str:
        """Store a manifest whose chunks are already here, and return its root."""
        return self.put(manifest.to_bytes())

    def manifest(self, root: str, kind: str) -> Manifest:
        """The stored manifest ``root``. Raises ``RefusedError`` if it is missing or of another kind."""
        return Manifest.from_bytes(self.get(root), root=root, kind=kind)

    def put_bytes(self, kind: str, meta: dict[str, object], data: bytes | memoryview) -> Manifest:
        """Cut ``data`` into 1 MiB chunks, store them and their manifest, and return it."""
        chunks = tuple(ChunkRef(self.put(piece), len(piece)) for piece in cut(data, CHUNK_BYTES_MAX))
        manifest = Manifest(kind=kind, meta=dict(meta), chunks=chunks)
        self.put_manifest(manifest)
        return manifest

    def read(self, manifest: Manifest) -> bytes:
        """All bytes of a blob whose chunks are all here."""
        return b"".join(self.get(chunk.hash) for chunk in manifest.chunks)

    def read_into(self, manifest: Manifest, target: memoryview) -> None:
        """The same, written to ``target`` [bytes]. Raises ``RefusedError`` where they do not just fill it."""
        at = 0
        for chunk in manifest.chunks:
            data = self.get(chunk.hash)
            if at + len(data) > len(target):
                raise RefusedError(f"blob {manifest.root[:16]}… has more bytes than its form allows")
            target[at : at + len(data)] = data
            at += len(data)
        if at != len(target):
            raise RefusedError(f"blob {manifest.root[:16]}… has fewer bytes than its form asks for")

    def missing(self, manifest: Manifest) -> tuple[ChunkRef, ...]:
        """The chunks still to fetch: those that are not here, or not in their full size."""
        return tuple(chunk for chunk in manifest.chunks if self._size_bytes(chunk.hash) != chunk.size_bytes)

    def _size_bytes(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1
