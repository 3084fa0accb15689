"""Averaged chunks come from those who made them and from the one who keeps them all, whatever some of them do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from swarm_peers import StartPeer

from anynode.blobs.store import BlobStore
from anynode.swarm.blob_exchange import BLOB, serve_blobs
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode_contracts.errors import RefusedError, UnreachableError

CHUNK_BYTES = 1 << 14
CHUNKS = 12


def allow_all(peer_id: str, digest: str) -> bool:
    return True


def made(store: BlobStore, seed: int) -> list[str]:
    """Chunks that a maker has."""
    numbers = random.Random(seed)
    return [store.put(numbers.randbytes(CHUNK_BYTES)) for _ in range(CHUNKS)]


async def refusing(peer: Peer) -> None:
    async def handler(peer_id: str, request: bytes) -> bytes:
        raise RefusedError("this peer gives nothing; ask another")

    await peer.serve(BLOB, handler, limit_bytes=64)


async def lying(peer: Peer) -> None:
    async def handler(peer_id: str, request: bytes) -> bytes:
        return b"other bytes"

    await peer.serve(BLOB, handler, limit_bytes=64)


async def test_all_chunks_come_though_a_maker_refuses_and_the_keeper_lies(
    start_peer: StartPeer, tmp_path: Path
) -> None:
    fetcher = await start_peer("fetcher")
    silent, maker, keeper, other = [
        await start_peer(name, *fetcher.addresses) for name in ("silent", "maker", "keeper", "other")
    ]
    stores = {name: BlobStore(tmp_path / name) for name in ("maker", "other", "fetched")}
    lost, given = made(stores["other"], 1), made(stores["maker"], 2)
    await refusing(silent)
    await lying(keeper)
    await serve_blobs(maker, stores["maker"], allow=allow_all)
    await serve_blobs(other, stores["other"], allow=allow_all)
    makers = dict.fromkeys(lost, silent.peer_id) | dict.fromkeys(given, maker.peer_id)

    await fetch_payloads(fetcher, stores["fetched"], makers, keeper.peer_id, [other.peer_id])

    assert all(stores["fetched"].has(digest) for digest in makers)


async def test_the_keeper_gives_what_a_maker_does_not(start_peer: StartPeer, tmp_path: Path) -> None:
    fetcher = await start_peer("fetcher")
    silent, keeper = [await start_peer(name, *fetcher.addresses) for name in ("silent", "keeper")]
    kept, fetched = BlobStore(tmp_path / "kept"), BlobStore(tmp_path / "fetched")
    await refusing(silent)
    await serve_blobs(keeper, kept, allow=allow_all)
    chunks = made(kept, 3)

    await fetch_payloads(fetcher, fetched, dict.fromkeys(chunks, silent.peer_id), keeper.peer_id)

    assert all(fetched.has(digest) for digest in chunks)


async def test_a_chunk_that_nobody_has_is_an_error(start_peer: StartPeer, tmp_path: Path) -> None:
    fetcher = await start_peer("fetcher")
    keeper = await start_peer("keeper", *fetcher.addresses)
    await refusing(keeper)
    with pytest.raises(UnreachableError, match="nobody gives chunk"):
        await fetch_payloads(fetcher, BlobStore(tmp_path / "s"), {"ab" * 32: keeper.peer_id}, keeper.peer_id)
