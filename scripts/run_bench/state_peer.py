"""One peer of the `join` benchmark, in a home of its own: a seed that serves a state, or the newcomer that fetches it.

    state_peer.py make STORE MEGABYTES
    state_peer.py seed STORE FOLDER ADDRESS [lie]
    state_peer.py fetch STORE FOLDER ADDRESS ROOT SEED...

Each says what it has to say as JSON lines; a seed serves until its input ends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import torch

from anynode.blobs.store import BlobStore
from anynode.exact.layout import TensorLayout
from anynode.exact.state import State
from anynode.swarm.blob_exchange import BLOB, fetch_blob, fetch_manifest, serve_blobs
from anynode.swarm.identity import ensure_identity
from anynode.swarm.peer import Peer
from anynode_contracts.canonical import hash_hex

PORT = 4001
SEED = 5


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def make(store: BlobStore, megabytes: float) -> None:
    """Save a state of ``megabytes`` (10^6 bytes): parameters and momentum, each drawn at random."""
    values = int(megabytes * 1e6 / 8)
    drawn = torch.Generator().manual_seed(SEED)
    params, momentum = (torch.randn(values, generator=drawn) for _ in range(2))
    layout = TensorLayout.of({"w": params})
    state = State("0" * 64, layout, params, momentum, torch.empty(0), torch.empty(0), round=1)
    manifest = state.save(store)
    say(root=manifest.root, chunks=len(manifest.chunks), size_bytes=manifest.size_bytes)


async def start(folder: Path, address: str, initial_peers: list[str]) -> Peer:
    ensure_identity(folder / "libp2p.key")
    return await Peer.start(
        folder / "libp2p.key", PORT, initial_peers, host=address, state_dir=folder, network="bench-join"
    )


async def serve(store: BlobStore, folder: Path, address: str, *, lie: bool) -> None:
    """Serve what is in the store until standard input ends; a liar changes a byte of every other chunk."""
    turn = itertools.count()

    async def lying(peer_id: str, request: bytes) -> bytes:
        right = await asyncio.to_thread(store.get, request.decode())
        return bytes([right[0] ^ 1]) + right[1:] if next(turn) % 2 else right

    async with await start(folder, address, []) as peer:
        if lie:
            await peer.serve(BLOB, lying, limit_bytes=64)
        else:
            await serve_blobs(peer, store, allow=lambda _peer, _digest: True)
        say(address=next(item for item in peer.addresses if address in item))
        await asyncio.to_thread(sys.stdin.read)


async def fetch(store: BlobStore, folder: Path, address: str, root: str, seeds: list[str]) -> None:
    """Fetch the state, saying when which byte is there, then look at every chunk that was accepted."""
    async with await start(folder, address, seeds) as peer:
        sources = [seed.rpartition("/")[2] for seed in seeds]
        say(began_s=time.monotonic())
        manifest = await fetch_manifest(peer, store, root, "state", sources)
        result = await fetch_blob(
            peer, store, manifest, sources, lambda done, _total: say(at_s=time.monotonic(), done_bytes=done)
        )
    bad = sum(hash_hex(path.read_bytes()) != path.parent.name + path.name for path in store.folder.glob("*/*"))
    same = State.load(store, root).header().round == 1
    say(
        bad_chunks=bad,
        loaded=same,
        dropped=[f"{source[-8:]}: {reason}" for source, reason in result.dropped.items()],
        bytes_by_source=list(result.bytes_by_source.values()),
    )


def main() -> None:
    role, folder, *rest = sys.argv[1:]
    store = BlobStore(Path(folder))
    if role == "make":
        make(store, float(rest[0]))
    elif role == "seed":
        asyncio.run(serve(store, Path(rest[0]), rest[1], lie=rest[2:] == ["lie"]))
    else:
        asyncio.run(fetch(store, Path(rest[0]), rest[1], rest[2], rest[3:]))


if __name__ == "__main__":
    main()
