"""Averaged chunks come from those who made them and from the one who keeps them all, whatever some of them do."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from swarm_peers import StartPeer

from anynode.blobs.store import BlobStore
from anynode.swarm.frames import HEADER, Kind, read_frame
from anynode.swarm.payloads import CHUNKS, CHUNKS_MAX, MAKER_SHARE, PER_SOURCE, fetch_payloads, serve_payloads
from anynode.swarm.peer import Peer
from anynode_contracts.errors import RefusedError, StorageError, UnreachableError

CHUNK_BYTES = 1 << 12
COUNT = 2 * CHUNKS_MAX + 1


def allow_all(peer_id: str, digest: str) -> bool:
    return True


def made(store: BlobStore, seed: int) -> list[str]:
    """Chunks that a maker has."""
    numbers = random.Random(seed)
    return [store.put(numbers.randbytes(CHUNK_BYTES)) for _ in range(COUNT)]


async def refusing(peer: Peer) -> None:
    async def handler(peer_id: str, request: bytes) -> bytes:
        raise RefusedError("this peer gives nothing; ask another")

    await peer.serve(CHUNKS, handler, limit_bytes=1 << 10)


async def lying(peer: Peer) -> None:
    async def handler(peer_id: str, request: bytes) -> bytes:
        return b"\0\0\0\3abc" * (len(request) // 64)

    await peer.serve(CHUNKS, handler, limit_bytes=1 << 10)


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
    await serve_payloads(maker, stores["maker"], allow=allow_all)
    await serve_payloads(other, stores["other"], allow=allow_all)
    makers = dict.fromkeys(lost, silent.peer_id) | dict.fromkeys(given, maker.peer_id)
    others = [other.peer_id, maker.peer_id]

    await fetch_payloads(fetcher, stores["fetched"], makers, keeper.peer_id, others)

    for digest in lost:
        assert stores["fetched"].get(digest) == stores["other"].get(digest)
    assert all(stores["fetched"].has(digest) for digest in given)


async def test_the_keeper_gives_what_a_maker_lacks_refuses_or_owes_for_long(
    start_peer: StartPeer, tmp_path: Path
) -> None:
    fetcher = await start_peer("fetcher")
    partial, hanging, keeper = [await start_peer(name, *fetcher.addresses) for name in ("partial", "hanging", "keeper")]
    kept, part, fetched = (BlobStore(tmp_path / name) for name in ("kept", "part", "fetched"))
    chunks, more = made(kept, 3), made(kept, 4)
    for digest in chunks[::2]:
        part.put(kept.get(digest))
    asked: list[int] = []
    never = asyncio.Event()

    async def hang(peer_id: str, request: bytes) -> bytes:
        asked.append(len(request) // 64)
        await never.wait()
        return b""

    await hanging.serve(CHUNKS, hang, limit_bytes=1 << 10)
    await serve_payloads(partial, part, allow=allow_all)
    await serve_payloads(keeper, kept, allow=allow_all)
    makers = dict.fromkeys(chunks, partial.peer_id) | dict.fromkeys(more, hanging.peer_id)

    async with asyncio.timeout(60):
        await fetch_payloads(fetcher, fetched, makers, keeper.peer_id, hedge_after_s=0.2)

    assert all(fetched.has(digest) for digest in makers)
    assert asked and max(asked) <= CHUNKS_MAX


async def test_who_takes_a_request_and_keeps_silent_is_given_up(start_peer: StartPeer, tmp_path: Path) -> None:
    fetcher = await start_peer("fetcher")
    silent, other = [await start_peer(name, *fetcher.addresses) for name in ("silent", "other")]
    kept, fetched = BlobStore(tmp_path / "kept"), BlobStore(tmp_path / "fetched")
    chunks, asked, never = made(kept, 6), list[int](), asyncio.Event()

    async def hang(peer_id: str, request: bytes) -> bytes:
        asked.append(len(request) // 64)
        await never.wait()
        return b""

    await silent.serve(CHUNKS, hang, limit_bytes=1 << 10)
    await serve_payloads(other, kept, allow=allow_all)
    makers, others = dict.fromkeys(chunks, silent.peer_id), [silent.peer_id, other.peer_id]

    async with asyncio.timeout(60):
        await fetch_payloads(fetcher, fetched, makers, "", others, at_once=1, silent_s=0.2)

    assert all(fetched.has(digest) for digest in chunks)
    assert asked == [1] * (PER_SOURCE + 1), "once in each lane, and once more in the end"


async def test_every_part_of_an_answer_is_a_sign_of_life() -> None:
    payload, reader, heard = bytes(range(256)) * 1024, asyncio.StreamReader(), list[int]()
    sent = iter(payload[start : start + 1024] for start in range(0, len(payload), 1024))

    def feed() -> None:
        heard.append(1)
        reader.feed_data(next(sent, b""))

    reader.feed_data(HEADER.pack(Kind.ANSWER, len(payload)))
    assert await read_frame(reader, limit_bytes=len(payload), heard=feed) == (Kind.ANSWER, payload)
    assert len(heard) == 1 + len(payload) // 1024
    broken = asyncio.StreamReader()
    broken.feed_data(HEADER.pack(Kind.ANSWER, 9) + b"half")
    broken.feed_eof()
    with pytest.raises(EOFError):
        await read_frame(broken, limit_bytes=9)


async def test_a_maker_on_a_slow_line_has_to_send_little_where_a_keeper_has_a_good_one(
    start_peer: StartPeer, tmp_path: Path
) -> None:
    fetcher = await start_peer("fetcher")
    maker, keeper = [await start_peer(name, *fetcher.addresses) for name in ("maker", "keeper")]
    made_here, fetched = BlobStore(tmp_path / "made"), BlobStore(tmp_path / "fetched")
    chunks = made(made_here, 5)
    asked_of_maker: list[bytes] = []
    rest_is_here = asyncio.Event()

    async def slowly(peer_id: str, request: bytes) -> bytes:
        asked_of_maker.append(request)
        await rest_is_here.wait()
        raise RefusedError("this line is too slow; ask another")

    def allow(peer_id: str, digest: str) -> bool:
        served.add(digest)
        if len(served) == COUNT - COUNT // MAKER_SHARE:
            rest_is_here.set()
        return True

    served: set[str] = set()
    await maker.serve(CHUNKS, slowly, limit_bytes=1 << 10)
    await serve_payloads(keeper, made_here, allow=allow)

    await fetch_payloads(fetcher, fetched, dict.fromkeys(chunks, maker.peer_id), keeper.peer_id, hedge_after_s=600.0)

    assert all(fetched.has(digest) for digest in chunks)
    assert len(b"".join(asked_of_maker)) == COUNT // MAKER_SHARE * 64


async def test_chunks_that_nobody_gives_and_a_full_disk_are_errors(start_peer: StartPeer, tmp_path: Path) -> None:
    fetcher = await start_peer("fetcher")
    keeper = await start_peer("keeper", *fetcher.addresses)
    kept = BlobStore(tmp_path / "kept")
    chunks = made(kept, 5)
    await serve_payloads(keeper, kept, allow=lambda peer_id, digest: digest != chunks[0])
    makers = dict.fromkeys(chunks, keeper.peer_id)
    with pytest.raises(UnreachableError, match="nobody gives 1 chunks"):
        await fetch_payloads(fetcher, BlobStore(tmp_path / "s"), makers, keeper.peer_id)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        await fetch_payloads(fetcher, BlobStore(tmp_path / "file"), makers, keeper.peer_id)
