"""Single chunks by hash: the pieces of an averaged update, from whoever has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from anynode.blobs.manifest import CHUNK_BYTES_MAX
from anynode.blobs.store import BlobStore
from anynode.swarm.blob_exchange import BLOB, CHUNK_TIMEOUT_S, Caller
from anynode.swarm.frames import short
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, StorageError, UnreachableError, UserError

log = logging.getLogger(__name__)

#: Requests under way at the one that has everything; one is at each of the many makers.
PER_KEEPER = 4


async def fetch_payload(peer: Caller, store: BlobStore, digest: str, sources: Sequence[str]) -> None:
    """Bring the chunk ``digest`` into the store, from the first source that has it.

    Raises ``UnreachableError`` when none gives it.
    """
    if await asyncio.to_thread(store.has, digest):
        return
    for source in dict.fromkeys(sources):
        try:
            data = await _ask(peer, digest, source)
        except UserError as error:
            log.info("no chunk from peer %s: %s", short(source), error)
            continue
        await asyncio.to_thread(store.put, data)
        return
    raise UnreachableError(f"nobody gives chunk {digest[:16]}… now; it is asked for again")


async def fetch_payloads(
    peer: Caller, store: BlobStore, makers: Mapping[str, str], keeper: str, others: Sequence[str] = ()
) -> None:
    """Bring chunks into the store from several peers at once: ``makers`` maps each to who has made it, and ``keeper``
    has them all.

    A source gets the next request when it has answered the last, so that whoever has the better line gives more: homes
    need not send what a data centre can. What these do not give is asked of ``others``. Raises ``UnreachableError``
    when nobody gives a chunk, ``StorageError`` when the disk is full.
    """
    open_: dict[str, list[str]] = {}
    for digest, maker in makers.items():
        if not await asyncio.to_thread(store.has, digest):
            open_.setdefault(maker, []).append(digest)

    async def lane(source: str, next_digest: Callable[[], str | None]) -> None:
        while (digest := next_digest()) is not None:
            try:
                data = await _ask(peer, digest, source)
            except UserError as error:
                log.info("no more chunks from peer %s: %s", short(source), error)
                return
            await asyncio.to_thread(store.put, data)

    def first_of(maker: str) -> str | None:
        return open_[maker].pop(0) if open_[maker] else None

    def last_of_longest() -> str | None:
        longest = max(open_.values(), key=len)
        return longest.pop() if longest else None

    if not open_:
        return
    try:
        async with asyncio.TaskGroup() as lanes:
            for maker in open_:
                lanes.create_task(lane(maker, partial(first_of, maker)))
            for _ in range(PER_KEEPER):
                lanes.create_task(lane(keeper, last_of_longest))
    except* StorageError as errors:
        raise errors.exceptions[0] from None
    for digest, maker in makers.items():
        await fetch_payload(peer, store, digest, (keeper, maker, *others))


async def _ask(peer: Caller, digest: str, source: str) -> bytes:
    """One chunk from one source, checked. Raises ``UserError``."""
    data = await peer.call(source, BLOB, digest.encode(), CHUNK_TIMEOUT_S, CHUNK_BYTES_MAX)
    with peer.blaming(source):
        if await asyncio.to_thread(hash_hex, data) != digest:
            raise BreachError(f"peer {short(source)} sent other bytes than asked for; it is passed over", Offence.HASH)
    return data
