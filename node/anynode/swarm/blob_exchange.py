"""Blobs between peers: serve chunks and manifests by their hash, fetch one from several sources at once.

Every chunk is checked against its hash before it is written. A source that sends wrong bytes, does not answer or breaks
off is dropped and named in the result; one that merely lacks a chunk is not. A fetch that is broken off leaves whole
chunks behind, and the next one asks only for the missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from anynode.blobs.manifest import MANIFEST_BYTES_MAX, ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.swarm.chunk_queue import ChunkQueue
from anynode.swarm.frames import Code, PeerRefusedError, short
from anynode.swarm.hashes import HASH_HEX_BYTES, parse_hash
from anynode.swarm.limits import Rate
from anynode.swarm.service import Handler
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError, StorageError, UnreachableError, UserError

log = logging.getLogger(__name__)

BLOB = "blob"
NOT_HERE = "not-here"
BLOB_BYTES_MAX = 64 << 30
CHUNK_TIMEOUT_S = 120.0
MANIFEST_TIMEOUT_S = 300.0
HEDGE_AFTER_S = 5.0
PER_SOURCE = 3
SOURCES_MAX = 16
WAITS_MAX = 100
BLOB_RATE = Rate(per_s=200.0, burst=400)

Allow = Callable[[str, str], bool]
OnProgress = Callable[[int, int], None]


class Caller(Protocol):
    """The part of :class:`anynode.swarm.peer.Peer` that fetching needs."""

    async def call(
        self,
        peer_id: str,
        name: str,
        request: bytes,
        timeout_s: float,
        limit_bytes: int,
        *,
        silent_s: float | None = None,
    ) -> bytes: ...

    def blaming(self, peer_id: str) -> AbstractContextManager[None]: ...


class Server(Protocol):
    """The part of :class:`anynode.swarm.peer.Peer` that serving needs."""

    async def serve(
        self,
        name: str,
        handler: Handler,
        *,
        limit_bytes: int,
        rate: Rate,
        concurrency: int,
        per_peer: int,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch did: bytes from each source, and why each dropped source was dropped (one sentence)."""

    bytes_fetched: int
    bytes_by_source: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


async def serve_blobs(peer: Server, store: BlobStore, *, allow: Allow, rate: Rate = BLOB_RATE) -> None:
    """Serve what is in ``store`` to peers for whom ``allow(peer_id, digest)`` holds."""

    async def handler(peer_id: str, request: bytes) -> bytes:
        digest = parse_hash(request)
        if not store.has(digest) or not allow(peer_id, digest):
            # The same words for both: who may not have a blob learns nothing of it.
            raise PeerRefusedError(f"blob {digest[:16]}… is not here; ask another peer", code=NOT_HERE)
        return await asyncio.to_thread(store.get, digest)

    await peer.serve(BLOB, handler, limit_bytes=HASH_HEX_BYTES, rate=rate, concurrency=16, per_peer=4)


async def fetch_manifest(
    peer: Caller,
    store: BlobStore,
    root: str,
    kind: str,
    sources: Sequence[str],
    *,
    size_max_bytes: int = BLOB_BYTES_MAX,
    timeout_s: float = MANIFEST_TIMEOUT_S,
) -> Manifest:
    """The manifest ``root`` of a blob of ``kind``, from the store or the first source that has it.

    Raises ``RefusedError`` if the blob is over ``size_max_bytes``, ``UnreachableError`` if no source gave it.
    """
    if store.has(root):
        manifest = await asyncio.to_thread(store.manifest, root, kind)
        return _within(manifest, root, size_max_bytes)
    failed: dict[str, str] = {}
    for source in dict.fromkeys(sources):
        try:
            data = await peer.call(source, BLOB, root.encode(), timeout_s, MANIFEST_BYTES_MAX)
            with peer.blaming(source):
                manifest = await asyncio.to_thread(_keep_manifest, store, data, root, kind, size_max_bytes)
        except StorageError:
            raise
        except UserError as error:
            log.info("no manifest from peer %s: %s", short(source), error)
            failed[source] = str(error)
            continue
        return _within(manifest, root, size_max_bytes)
    raise no_source_left(f"the manifest {root[:16]}…", failed)


async def fetch_blob(
    peer: Caller,
    store: BlobStore,
    manifest: Manifest,
    sources: Sequence[str],
    on_progress: OnProgress | None = None,
    *,
    per_source: int = PER_SOURCE,
    timeout_s: float = CHUNK_TIMEOUT_S,
    hedge_after_s: float = HEDGE_AFTER_S,
) -> FetchResult:
    """Fetch the missing chunks of ``manifest`` from up to ``SOURCES_MAX`` sources at once. After that ``store`` holds
    the whole blob, durably.

    ``on_progress(bytes_done, bytes_total)`` is called at the start and after each chunk. ``per_source`` requests run at
    each source, ``timeout_s`` bounds one chunk. Idle sources are also asked for what a slow one has owed for
    ``hedge_after_s``. Raises ``UnreachableError`` when no source is left, ``UserError`` when the disk is full.
    """
    missing = await asyncio.to_thread(store.missing, manifest)
    queue = ChunkQueue(missing, hedge_after_s=hedge_after_s, clock=asyncio.get_running_loop().time)
    fetch = _Fetch(peer, store, queue, bytes_total=manifest.size_bytes, on_progress=on_progress, timeout_s=timeout_s)
    fetch.report()
    if missing:
        await fetch.run(list(dict.fromkeys(sources))[:SOURCES_MAX], per_source)
        root = await asyncio.to_thread(store.put_manifest, manifest)
        await asyncio.to_thread(store.sync_blob, root, manifest.kind)
    return FetchResult(sum(fetch.bytes_by_source.values()), fetch.bytes_by_source, fetch.dropped)


class _Fetch:
    """The state of one fetch: every source has a few workers that take chunks from one queue."""

    def __init__(
        self,
        peer: Caller,
        store: BlobStore,
        queue: ChunkQueue,
        *,
        bytes_total: int,
        on_progress: OnProgress | None,
        timeout_s: float,
    ) -> None:
        self.bytes_by_source: dict[str, int] = {}
        self.dropped: dict[str, str] = {}
        self._peer = peer
        self._store = store
        self._queue = queue
        self._bytes_total = bytes_total
        self._bytes_done = bytes_total - queue.bytes_left
        self._on_progress = on_progress
        self._timeout_s = timeout_s

    def report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._bytes_done, self._bytes_total)

    async def run(self, sources: list[str], per_source: int) -> None:
        workers = {asyncio.create_task(self._work(source)) for source in sources for _ in range(per_source)}
        stored = asyncio.create_task(self._queue.wait_all_stored())
        try:
            working = set(workers)
            while working and self._queue.left:
                finished, _ = await asyncio.wait(working | {stored}, return_when=asyncio.FIRST_COMPLETED)
                for worker in finished & working:
                    worker.result()
                working -= finished
        finally:
            for task in (stored, *workers):
                task.cancel()
            await asyncio.gather(stored, *workers, return_exceptions=True)
        if self._queue.left:
            failed = dict.fromkeys(sources, "does not have all of it") | self.dropped
            raise no_source_left(f"{self._queue.left} of the blob's chunks", failed)

    async def _work(self, source: str) -> None:
        while source not in self.dropped:
            chunk = await self._queue.take(source)
            if chunk is None:
                return
            try:
                data = await self._ask(source, chunk)
            except RefusedError as error:
                if isinstance(error, PeerRefusedError) and error.code == NOT_HERE:
                    self._queue.lacks(source, chunk)
                else:
                    self._drop(source, chunk, str(error))
                continue
            except UserError as error:
                self._drop(source, chunk, str(error))
                continue
            await self._keep(source, chunk, data)

    async def _ask(self, source: str, chunk: ChunkRef) -> bytes:
        """One chunk from one source, checked; waits as long as the source asks us to. Raises ``UserError``."""
        for _ in range(WAITS_MAX):
            try:
                data = await self._peer.call(source, BLOB, chunk.hash.encode(), self._timeout_s, chunk.size_bytes)
            except PeerRefusedError as error:
                if error.code not in (Code.RATE_LIMITED, Code.BUSY):
                    raise
                await asyncio.sleep(min(max(error.retry_after_s, 0.05), self._timeout_s))
                continue
            if len(data) != chunk.size_bytes or await asyncio.to_thread(hash_hex, data) != chunk.hash:
                sentence = f"peer {short(source)} sent other bytes than chunk {chunk.hash[:16]}…; dropped it"
                with self._peer.blaming(source):
                    raise BreachError(sentence, Offence.HASH)
            return data
        raise RefusedError(f"peer {short(source)} kept us waiting; dropped it")

    async def _keep(self, source: str, chunk: ChunkRef, data: bytes) -> None:
        if self._queue.arrived(chunk):
            await asyncio.to_thread(self._store.keep, chunk.hash, data)
            self._queue.stored(chunk)
            self._bytes_done += chunk.size_bytes
            self.bytes_by_source[source] = self.bytes_by_source.get(source, 0) + chunk.size_bytes
            self.report()

    def _drop(self, source: str, chunk: ChunkRef, reason: str) -> None:
        if source not in self.dropped:
            log.warning("dropping source %s: %s", short(source), reason)
            self.dropped[source] = reason
        self._queue.lacks(source, chunk)
        self._queue.drop(source)


def no_source_left(what: str, failed: dict[str, str]) -> UnreachableError:
    """One sentence that names what is missing and what became of each source."""
    reasons = ", ".join(f"{short(source)}: {_clause(reason)}" for source, reason in list(failed.items())[:4])
    tried = f"tried {reasons}" if reasons else "there is no source"
    return UnreachableError(f"no peer is left that can give {what} ({tried}); wait for a peer that has it")


def _clause(sentence: str) -> str:
    return sentence.partition(";")[0].rstrip(".")[:160]


def _keep_manifest(store: BlobStore, data: bytes, root: str, kind: str, size_max_bytes: int) -> Manifest:
    """The manifest in ``data``, checked, and stored unless its blob is too large."""
    manifest = _parse_manifest(data, root, kind)
    if manifest.size_bytes <= size_max_bytes:
        store.keep(root, data)
    return manifest


def _parse_manifest(data: bytes, root: str, kind: str) -> Manifest:
    manifest = Manifest.from_bytes(data, root=root, kind=kind)
    try:
        canonical = manifest.to_bytes() == data
    except (TypeError, ValueError):
        canonical = False
    if not canonical:
        raise RefusedError(f"the manifest {root[:16]}… is not canonical; ask whoever made it to make it anew")
    return manifest


def _within(manifest: Manifest, root: str, size_max_bytes: int) -> Manifest:
    if manifest.size_bytes > size_max_bytes:
        raise RefusedError(
            f"blob {root[:16]}… of {manifest.size_bytes} bytes is over the limit of {size_max_bytes}; do not fetch it"
        )
    return manifest
