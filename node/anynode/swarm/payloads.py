"""Single chunks by hash: the pieces of an averaged update, from whoever has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from anynode.blobs.manifest import CHUNK_BYTES_MAX
from anynode.blobs.store import BlobStore
from anynode.swarm.blob_exchange import BLOB, CHUNK_TIMEOUT_S, Caller
from anynode.swarm.frames import short
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, UnreachableError, UserError

log = logging.getLogger(__name__)


async def fetch_payload(peer: Caller, store: BlobStore, digest: str, sources: Sequence[str]) -> None:
    """Bring the chunk ``digest`` into the store, from the first source that has it.

    Raises ``UnreachableError`` when none gives it.
    """
    if await asyncio.to_thread(store.has, digest):
        return
    for source in dict.fromkeys(sources):
        try:
            data = await peer.call(source, BLOB, digest.encode(), CHUNK_TIMEOUT_S, CHUNK_BYTES_MAX)
            with peer.blaming(source):
                if hash_hex(data) != digest:
                    sentence = f"peer {short(source)} sent other bytes than asked for; it is passed over"
                    raise BreachError(sentence, Offence.HASH)
        except UserError as error:
            log.info("no chunk from peer %s: %s", short(source), error)
            continue
        await asyncio.to_thread(store.put, data)
        return
    raise UnreachableError(f"nobody gives chunk {digest[:16]}… now; it is asked for again")
