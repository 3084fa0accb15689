"""Blobs come from several peers at once, whole, whatever some of them do."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from swarm_peers import StartPeer

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.swarm.blob_exchange import BLOB, fetch_blob, fetch_manifest, serve_blobs
from anynode.swarm.chunk_queue import ChunkQueue
from anynode.swarm.frames import Code, PeerRefusedError
from anynode.swarm.limits import Rate
from anynode.swarm.peer import Peer
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError, UnreachableError, UserError

SEED = 7
CHUNK_BYTES = 1 << 16
CHUNKS = 24


def make_blob(store: BlobStore) -> tuple[Manifest, bytes]:
    data = random.Random(SEED).randbytes(CHUNK_BYTES * (CHUNKS - 1) + 100)
    pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    manifest = Manifest("state", {"round": 3}, tuple(ChunkRef(store.put(piece), len(piece)) for piece in pieces))
    store.put_manifest(manifest)
    return manifest, data


def allow_all(peer_id: str, digest: str) -> bool:
    return True


async def test_a_blob_comes_whole_from_three_sources_of_which_one_lies_and_one_dies(
    start_peer: StartPeer, tmp_path: Path
) -> None:
    full, store = BlobStore(tmp_path / "full"), BlobStore(tmp_path / "fetched")
    manifest, data = make_blob(full)
    fetcher = await start_peer("fetcher")
    honest, liar, dying = [await start_peer(name, *fetcher.addresses) for name in ("honest", "liar", "dying")]
    served_by_dying = 0

    async def lie(peer_id: str, request: bytes) -> bytes:
        right = full.get(request.decode())
        return bytes([right[0] ^ 1]) + right[1:]

    async def die_soon(peer_id: str, request: bytes) -> bytes:
        nonlocal served_by_dying
        served_by_dying += 1
        if served_by_dying > 1:
            await asyncio.shield(closing())
        return full.get(request.decode())

    ended: list[asyncio.Task[None]] = []

    def closing() -> asyncio.Task[None]:
        if not ended:
            ended.append(asyncio.create_task(dying.close()))
        return ended[0]

    await serve_blobs(honest, full, allow=allow_all)
    await liar.serve(BLOB, lie, limit_bytes=64)
    await dying.serve(BLOB, die_soon, limit_bytes=64)
    sources = [liar.peer_id, dying.peer_id, honest.peer_id]

    fetched = await fetch_manifest(fetcher, store, manifest.root, "state", sources)
    assert fetched == manifest
    progress: list[tuple[int, int]] = []
    result = await fetch_blob(
        fetcher,
        store,
        fetched,
        sources,
        lambda done, total: progress.append((done, total)),
        hedge_after_s=600.0,  # what the dying one owes is asked of others because it died, not because it was slow
    )

    assert store.read(manifest) == data
    assert result.bytes_fetched == len(data) == sum(result.bytes_by_source.values())
    assert set(result.dropped) == {liar.peer_id, dying.peer_id}
    assert "sent other bytes than chunk" in result.dropped[liar.peer_id]
    assert liar.peer_id not in result.bytes_by_source
    assert progress[0] == (0, len(data)) and progress[-1] == (len(data), len(data))
    assert progress == sorted(progress) and len(progress) == CHUNKS + 1
    await asyncio.gather(*ended)


async def test_a_broken_off_fetch_goes_on_where_it_was(start_peer: StartPeer, tmp_path: Path) -> None:
    full, store = BlobStore(tmp_path / "full"), BlobStore(tmp_path / "fetched")
    manifest, data = make_blob(full)
    fetcher = await start_peer("fetcher")
    # The second fetch has a source of its own: requests of the first may still be on their way to the first source.
    before, after = [await start_peer(name, *fetcher.addresses) for name in ("before", "after")]
    asked: list[str] = []

    def count(peer_id: str, digest: str) -> bool:
        asked.append(digest)
        return True

    await serve_blobs(before, full, allow=allow_all)
    await serve_blobs(after, full, allow=count)
    half = asyncio.Event()

    def stop_at_half(done: int, total: int) -> None:
        if done * 2 >= total:
            half.set()

    first = asyncio.create_task(fetch_blob(fetcher, store, manifest, [before.peer_id], stop_at_half))
    await half.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    missing = [chunk.hash for chunk in store.missing(manifest)]
    assert 0 < len(missing) <= CHUNKS // 2
    result = await fetch_blob(fetcher, store, manifest, [after.peer_id], hedge_after_s=600.0)
    # A write that the cancellation overtook may have ended since, so fewer may be asked for than were missing.
    assert len(asked) == len(set(asked)) and set(asked) <= set(missing)
    assert store.read(manifest) == data and result.dropped == {}
    again = await fetch_blob(fetcher, store, manifest, [])  # nothing is missing: nobody is needed
    assert again.bytes_fetched == 0


async def test_no_source_left_names_what_became_of_each(start_peer: StartPeer, tmp_path: Path) -> None:
    full, part, store = (BlobStore(tmp_path / name) for name in ("full", "part", "fetched"))
    manifest, _ = make_blob(full)
    part.put(full.get(manifest.chunks[0].hash))
    fetcher = await start_peer("fetcher")
    secretive, partial = [await start_peer(name, *fetcher.addresses) for name in ("secretive", "partial")]
    await serve_blobs(secretive, full, allow=lambda peer_id, digest: False)
    await serve_blobs(partial, part, allow=allow_all)
    sources = [secretive.peer_id, partial.peer_id]

    with pytest.raises(UnreachableError, match=r"no peer is left that can give the manifest .* is not here"):
        await fetch_manifest(fetcher, store, manifest.root, "state", sources)
    with pytest.raises(UnreachableError, match=f"give {CHUNKS - 1} of the blob's chunks .* does not have all of it"):
        await fetch_blob(fetcher, store, manifest, sources)
    assert len(store.missing(manifest)) == CHUNKS - 1
    with pytest.raises(UnreachableError, match="there is no source"):
        await fetch_blob(fetcher, store, manifest, [])
    both = await fetch_blob(fetcher, BlobStore(tmp_path / "x"), Manifest("state", {}, manifest.chunks[:1]), sources)
    assert both.dropped == {} and both.bytes_by_source == {partial.peer_id: CHUNK_BYTES}


async def test_a_rate_limited_source_is_waited_for(start_peer: StartPeer, tmp_path: Path) -> None:
    full, store = BlobStore(tmp_path / "full"), BlobStore(tmp_path / "fetched")
    manifest, data = make_blob(full)
    fetcher = await start_peer("fetcher")
    source = await start_peer("source", *fetcher.addresses)
    await serve_blobs(source, full, allow=allow_all, rate=Rate(per_s=50.0, burst=2))
    result = await fetch_blob(fetcher, store, manifest, [source.peer_id])
    assert store.read(manifest) == data and result.dropped == {}


async def test_manifests_are_checked(start_peer: StartPeer, tmp_path: Path) -> None:
    full, store = BlobStore(tmp_path / "full"), BlobStore(tmp_path / "fetched")
    manifest, _ = make_blob(full)
    fetcher = await start_peer("fetcher")
    source = await start_peer("source", *fetcher.addresses)
    await serve_blobs(source, full, allow=allow_all)
    loose = b" " + manifest.to_bytes()

    with pytest.raises(RefusedError, match="over the limit of 1000; do not fetch it"):
        await fetch_manifest(fetcher, store, manifest.root, "state", [source.peer_id], size_max_bytes=1000)
    for root, kind, words in (
        (manifest.root, "update", "is not a update within limits"),
        (full.put(loose), "state", "is not canonical"),
        (full.put(b"[]"), "state", "is malformed"),
        (hash_hex(b"unknown"), "state", "is not here"),
    ):
        with pytest.raises(UnreachableError, match=words):
            await fetch_manifest(fetcher, store, root, kind, [source.peer_id])
        assert not store.has(root)


async def test_a_full_disk_is_the_users_error(start_peer: StartPeer, tmp_path: Path) -> None:
    full = BlobStore(tmp_path / "full")
    manifest, _ = make_blob(full)
    fetcher = await start_peer("fetcher")
    source = await start_peer("source", *fetcher.addresses)
    await serve_blobs(source, full, allow=allow_all)
    (tmp_path / "file").write_text("a file where the store's folder should be")
    with pytest.raises(UserError, match="cannot write"):
        await fetch_blob(fetcher, BlobStore(tmp_path / "file"), manifest, [source.peer_id])


async def test_a_slow_source_is_overtaken(tmp_path: Path) -> None:
    """Two sources as plain functions: one never answers, the other takes over what it owes."""
    full, store = BlobStore(tmp_path / "full"), BlobStore(tmp_path / "fetched")
    manifest, data = make_blob(full)
    never = asyncio.Event()

    class TwoSources:
        async def call(self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
            if peer_id == "slow":
                await never.wait()
            return full.get(request.decode())

        def blaming(self, peer_id: str) -> AbstractContextManager[None]:
            raise AssertionError("both sources give the right bytes")

    result = await fetch_blob(TwoSources(), store, manifest, ["slow", "fast"], hedge_after_s=0.05)
    assert store.read(manifest) == data
    assert set(result.bytes_by_source) == {"fast"} and result.dropped == {}


async def test_the_queue_gives_each_chunk_once_and_a_late_one_to_another_source() -> None:
    now_s = 0.0
    first, second = ChunkRef("1" * 64, 10), ChunkRef("2" * 64, 20)
    queue = ChunkQueue([first, second, first], hedge_after_s=5.0, clock=lambda: now_s)
    assert (queue.left, queue.bytes_left) == (2, 30)
    assert await queue.take("a") == first
    assert await queue.take("b") == second
    queue.lacks("b", second)
    assert await queue.take("a") == second  # b does not get it again
    now_s = 5.0
    assert await queue.take("b") == first  # a has owed it for long
    assert queue.arrived(first) and not queue.arrived(first)
    queue.stored(first)
    assert await queue.take("b") is None  # only second is left, which b lacks
    queue.drop("a")
    assert await queue.take("a") is None
    assert queue.arrived(second)
    queue.stored(second)
    await queue.wait_all_stored()
    assert queue.left == 0


async def test_only_blob_hashes_are_served(start_peer: StartPeer, tmp_path: Path) -> None:
    server: Peer = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    await serve_blobs(server, BlobStore(tmp_path / "store"), allow=allow_all)
    for request in (b"../../etc/passwd", b"\xff" * 64, b"A" * 64, b""):
        with pytest.raises(RefusedError, match="names no hash of 64 hexadecimal digits"):
            await client.call(server.peer_id, BLOB, request)
    with pytest.raises(PeerRefusedError) as refused:
        await client.call(server.peer_id, BLOB, b"a" * 65)
    assert refused.value.code == Code.TOO_LARGE
