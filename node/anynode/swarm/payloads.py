"""Single chunks by hash, several in one request: the pieces of an averaged update, from whoever has them.

A request is up to ``CHUNKS_MAX`` hashes (64 hexadecimal digits each); its answer holds, for each hash in order, the
size as four big-endian bytes and the chunk, or size zero where it is not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence

from anynode.blobs.manifest import CHUNK_BYTES_MAX
from anynode.blobs.store import BlobStore
from anynode.swarm.blob_exchange import WAITS_MAX, Allow, Caller, Server
from anynode.swarm.frames import Code, PeerRefusedError, short
from anynode.swarm.hashes import HASH_HEX_BYTES, parse_hashes
from anynode.swarm.limits import Rate
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError, StorageError, UnreachableError, UserError

log = logging.getLogger(__name__)

CHUNKS = "chunks"
CHUNKS_MAX = 8
PER_SOURCE = 2
PER_KEEPER = 4
"""Requests under way at a source, and at the one that has everything."""
MAKER_SHARE = 8
"""With a keeper, a maker has one request under way, for an eighth of what waits there: its line may be a slow one."""
HEDGE_AFTER_S = 5.0
ANSWER_TIMEOUT_S = 120.0
SILENT_S = 20.0
"""Where others wait for what is fetched: who sends nothing for so long keeps silent. Who is slow does not."""
CHUNKS_RATE = Rate(per_s=100.0, burst=400)
_SIZE = struct.Struct(">I")
ANSWER_BYTES_MAX = CHUNKS_MAX * (_SIZE.size + CHUNK_BYTES_MAX)


async def serve_payloads(peer: Server, store: BlobStore, *, allow: Allow, service: str = CHUNKS) -> None:
    """Serve chunks of ``store`` to peers for whom ``allow(peer_id, digest)`` holds, under the name ``service``."""

    async def handler(peer_id: str, request: bytes) -> bytes:
        digests = parse_hashes(request)
        return await asyncio.to_thread(_answer, store, [item if allow(peer_id, item) else "" for item in digests])

    limit_bytes = CHUNKS_MAX * HASH_HEX_BYTES
    await peer.serve(service, handler, limit_bytes=limit_bytes, rate=CHUNKS_RATE, concurrency=8, per_peer=PER_SOURCE)


async def fetch_payloads(
    peer: Caller,
    store: BlobStore,
    makers: Mapping[str, str],
    keeper: str = "",
    others: Sequence[str] = (),
    *,
    hedge_after_s: float = HEDGE_AFTER_S,
    service: str = CHUNKS,
    at_once: int = CHUNKS_MAX,
    silent_s: float | None = None,
) -> None:
    """Bring chunks into the store from several peers at once: ``makers`` maps each to who has made it, and ``keeper``,
    if there is one, has them all.

    A source gets the next request when it has answered the last, so that whoever has the better line gives more: homes
    need not send what a data centre can. The keeper is also asked for what a maker owes for longer than
    ``hedge_after_s``. What these do not give is asked of ``others``. A request is for ``at_once`` chunks; whoever sends
    nothing for ``silent_s`` is given up. Raises ``UnreachableError`` when nobody gives a chunk, ``StorageError`` when
    the disk is full.
    """
    missing = await asyncio.to_thread(lambda: [digest for digest in makers if not store.has(digest)])
    gathering = _Gathering(
        peer,
        store,
        {digest: makers[digest] for digest in missing},
        keeper=keeper,
        service=service,
        hedge_after_s=hedge_after_s,
        at_once=at_once,
        silent_s=silent_s,
    )
    await gathering.run()
    for source in others:
        for batch in gathering.batches():
            if not await gathering.ask(source, batch):
                break
    if gathering.left:
        digest = next(iter(gathering.left))
        raise UnreachableError(
            f"nobody gives {len(gathering.left)} chunks ({digest[:16]}…) now; they are asked for again"
        )


class _Gathering:
    """The chunks still ``left``: each waits at its maker, or is on its way since some time."""

    def __init__(
        self,
        peer: Caller,
        store: BlobStore,
        makers: Mapping[str, str],
        *,
        keeper: str,
        service: str,
        hedge_after_s: float,
        at_once: int,
        silent_s: float | None,
    ) -> None:
        self.left = dict.fromkeys(makers)
        self._at_once, self._silent_s = at_once, silent_s
        self._keeper, self._service = keeper, service
        self._peer, self._store, self._hedge_after_s = peer, store, hedge_after_s
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)
        for digest, maker in makers.items():
            self._waiting[maker].append(digest)
        self._since_s: dict[str, float] = {}
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Ask makers and keeper until all is here or none of them gives more."""
        per_maker = 1 if self._keeper else PER_SOURCE
        lanes = [asyncio.create_task(self._ask_maker(maker)) for maker in list(self._waiting) for _ in range(per_maker)]
        if self._keeper:
            lanes += [asyncio.create_task(self._ask_keeper()) for _ in range(PER_KEEPER)]
        running = set(lanes)
        try:
            while running and self.left:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for lane in done:
                    lane.result()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    def batches(self) -> Iterator[Sequence[str]]:
        """What is left, a request's worth at a time."""
        digests = list(self.left)
        for start in range(0, len(digests), self._at_once):
            yield digests[start : start + self._at_once]

    async def ask(self, source: str, batch: Sequence[str]) -> bool:
        """Keep what a source gives of a batch. False if it is of no use any more: silent, refusing or lying."""
        now_s = self._clock()
        for digest in batch:
            self._since_s.setdefault(digest, now_s)
        try:
            data = await self._call(source, "".join(batch).encode())
            with self._peer.blaming(source):
                found = await asyncio.to_thread(_keep, self._store, batch, data, source)
        except StorageError:
            raise
        except UserError as error:
            log.info("no chunks from peer %s: %s", short(source), error)
            found = None
        for digest in found or ():
            self.left.pop(digest, None)
        for digest in batch:
            on_its_way = self._since_s.pop(digest, None) is not None
            if on_its_way and digest in self.left and source != self._keeper:
                self._waiting[self._keeper].append(digest)
        self._changed.set()
        return found is not None

    async def _ask_maker(self, maker: str) -> None:
        waiting = self._waiting[maker]
        while waiting:
            most = max(1, len(waiting) // MAKER_SHARE) if self._keeper else len(waiting)
            if not await self.ask(maker, [waiting.popleft() for _ in range(min(most, self._at_once))]):
                return

    async def _call(self, source: str, request: bytes) -> bytes:
        """Ask, and wait as long as the source asks us to."""
        for _ in range(WAITS_MAX):
            try:
                return await self._peer.call(
                    source, self._service, request, ANSWER_TIMEOUT_S, ANSWER_BYTES_MAX, silent_s=self._silent_s
                )
            except PeerRefusedError as error:
                if error.code not in (Code.RATE_LIMITED, Code.BUSY):
                    raise
                await asyncio.sleep(min(max(error.retry_after_s, 0.05), ANSWER_TIMEOUT_S))
        raise RefusedError(f"peer {short(source)} kept us waiting; it is passed over")

    async def _ask_keeper(self) -> None:
        """Take from the maker with most to do, then what is owed for long; wait for more while some is on its way."""
        while self.left:
            batch = self._last_of_longest() or self._owed_for_long()
            if batch and not await self.ask(self._keeper, batch):
                return
            if not batch and not self._since_s:
                return
            if not batch:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._hedge_after_s):
                        await self._changed.wait()

    def _last_of_longest(self) -> list[str]:
        longest = max(self._waiting.values(), key=len)
        # Half of what waits, so that both ends finish together.
        count = min(self._at_once, -(-len(longest) // 2))
        return [longest.pop() for _ in range(count)]

    def _owed_for_long(self) -> list[str]:
        now_s = self._clock()
        due = [digest for digest, since_s in self._since_s.items() if now_s - since_s >= self._hedge_after_s]
        for digest in due[: self._at_once]:
            self._since_s[digest] = now_s
        return due[: self._at_once]


def _answer(store: BlobStore, digests: Sequence[str]) -> bytes:
    parts = []
    for digest in digests:
        try:
            data = store.get(digest)
        except RefusedError:
            data = b""
        parts += [_SIZE.pack(len(data)), data]
    return b"".join(parts)


def _keep(store: BlobStore, asked: Sequence[str], data: bytes, source: str) -> list[str]:
    """Store what an answer holds, each chunk checked, and name it. Raises ``BreachError`` for other bytes."""
    view, found = memoryview(data), list[str]()
    for digest in asked:
        if len(view) < _SIZE.size:
            raise BreachError(
                f"peer {short(source)} sent fewer chunks than asked for; it is passed over", Offence.SCHEMA
            )
        (size,) = _SIZE.unpack_from(view)
        chunk, view = view[_SIZE.size : _SIZE.size + size], view[_SIZE.size + size :]
        if not size:
            continue
        if hash_hex(chunk) != digest:
            raise BreachError(f"peer {short(source)} sent other bytes than asked for; it is passed over", Offence.HASH)
        store.keep(digest, chunk)
        found.append(digest)
    return found
