"""The exchange of one round at its edges: a pipeline of chunks from senders to reducers and back to all.

Chunks leave in batches, a few of them on their way to each peer and a bounded number in all, so that memory holds some
batches and never a whole update. A sender's manifest comes with its first batch. Each chunk that arrives is checked
against the manifest its sender has committed to before it is used; a reducer averages one as soon as its senders are
complete, while others still arrive.
"""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from eth_account.signers.local import LocalAccount

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds import wire
from anynode.rounds.course import CHUNKS_PER_MESSAGE_MAX, Open, Result, Seal
from anynode.rounds.effects import Deliver, Reduce
from anynode.rounds.events import Reduced
from anynode.rounds.messages import RECEIPTS_MAX, Delivery, DeliveryReceipt
from anynode.rounds.statements import statement
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.worker.link import DELIVERY
from anynode.worker.reductions import Reductions
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError, UnreachableError
from anynode_contracts.signing import SigningDomain, check, sign

_HEADER = struct.Struct(">64sII")
"""Job id, and the bytes of the delivery's header and of the manifest, which follow; then come the payloads."""
HEADER_BYTES_MAX = 4096
MANIFEST_ALONG_BYTES_MAX = 64 << 10
"""A larger manifest is fetched by who lacks it, as it is where the first batch was lost."""
DELIVERY_BYTES_MAX = (
    _HEADER.size + HEADER_BYTES_MAX + MANIFEST_ALONG_BYTES_MAX + CHUNKS_PER_MESSAGE_MAX * CHUNK_BYTES_MAX
)
RECEIPT_BYTES_MAX = 4096
DELIVERY_TIMEOUT_S = 120.0
UPDATE_BYTES_MAX = 64 << 30
DELIVERIES_PER_PEER = 2
"""One is checked there while the next is on its way."""
DELIVERIES_AT_ONCE = 8
PIECE_S = 0.2
"""A batch goes in pieces that its line takes about so long for: on a slow one, sums begin with the first of them."""


class Exchange:
    """Sends and receives chunks of updates for job ``job_id``. Holds the manifests of the round's senders."""

    def __init__(
        self,
        job_id: str,
        *,
        peer: Peer,
        store: BlobStore,
        domain: SigningDomain,
        account: LocalAccount,
        reductions: Reductions,
    ) -> None:
        self._job_id, self._peer, self._store = job_id, peer, store
        self._domain, self._account, self._reductions = domain, account, reductions
        self._manifests: dict[str, Manifest] = {}
        self._sent_along: set[tuple[str, str]] = set()
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(DELIVERIES_PER_PEER))
        self._all_turns = asyncio.Semaphore(DELIVERIES_AT_ONCE)
        self._limits: set[asyncio.Timeout] = set()
        self._bytes_per_s: dict[str, float] = {}

    def forget(self) -> None:
        """A new round begins: the old manifests are in the store if anyone asks, and deliveries of the old round that
        hang are broken off, since they would take the turns of the new one's.
        """
        now_s = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now_s)
        self._limits.clear()
        self._manifests.clear()
        self._sent_along.clear()
        self._turns.clear()

    async def payload(self, deliver: Deliver, opened: Open) -> Delivery:
        """The header of some chunks: our own, or those that we hand on as a witness."""
        sender = opened.members[deliver.slot]
        manifest = await self._manifest(deliver.update_root, sender.peer)
        return Delivery(
            kind="delivery",
            node=sender.node,
            round=deliver.round,
            attempt=deliver.attempt,
            slot=deliver.slot,
            reducer=deliver.for_slot,
            chunks=deliver.chunks,
            payloads=tuple(manifest.chunks[chunk].hash for chunk in deliver.chunks),
        )

    async def pieces(self, deliver: Deliver, opened: Open) -> list[Deliver]:
        """The order in pieces for the receiver's line, as it was last seen; whole where it is not known."""
        manifest = await self._manifest(deliver.update_root, opened.members[deliver.slot].peer)
        rate = self._bytes_per_s.get(opened.members[deliver.to_slot].peer, math.inf)
        size_bytes = max(manifest.chunks[chunk].size_bytes for chunk in deliver.chunks)
        return cut_delivery(deliver, rate * PIECE_S / size_bytes, len(manifest.chunks))

    async def deliver(self, deliver: Deliver, opened: Open) -> DeliveryReceipt:
        """Hand over some chunks when it is their turn, and return the checked receipt. Raises ``UnreachableError`` when
        the round is over before there is one.
        """
        try:
            async with asyncio.timeout(None) as limit:
                self._limits.add(limit)
                return await self._deliver(deliver, opened)
        except TimeoutError as error:
            raise UnreachableError(f"round {deliver.round} is over; what was not delivered is not needed") from error
        finally:
            self._limits.discard(limit)

    async def _deliver(self, deliver: Deliver, opened: Open) -> DeliveryReceipt:
        delivery = await self.payload(deliver, opened)
        sender, receiver = opened.members[deliver.slot], opened.members[deliver.to_slot]
        header = wire.encode(delivery)
        async with self._turns[receiver.peer], self._all_turns:
            payloads = await asyncio.to_thread(lambda: [self._store.get(payload) for payload in delivery.payloads])
            manifest = await self._manifest(deliver.update_root, sender.peer)
            along = self._along(receiver.peer, deliver.update_root, manifest)
            lengths = _HEADER.pack(self._job_id.encode(), len(header), len(along))
            request = b"".join((lengths, header, along, *payloads))
            began_s = time.monotonic()
            try:
                answer = await self._peer.call(receiver.peer, DELIVERY, request, DELIVERY_TIMEOUT_S, RECEIPT_BYTES_MAX)
            except BaseException:
                self._sent_along.discard((receiver.peer, deliver.update_root))
                raise
            seconds = time.monotonic() - began_s
        with self._peer.blaming(receiver.peer):
            receipt = wire.parse_delivery_receipt(answer)
            same = replace(receipt, signature="", late=()) == delivery.receipt(receiver.node)
            if not same or not set(receipt.late) <= set(delivery.chunks):
                raise BreachError("the receipt is for other chunks; it is ignored", Offence.SCHEMA)
            said = statement(self._job_id, receipt)
            check(self._domain, said, receipt.signature, receiver.node)  # sooner done than a thread has it
        self._bytes_per_s[receiver.peer] = sum(map(len, payloads)) / seconds
        return receipt

    def _along(self, peer_id: str, root: str, manifest: Manifest) -> bytes:
        """The bytes of a manifest where they are to go with the next batch to a peer."""
        if (peer_id, root) in self._sent_along:
            return b""
        self._sent_along.add((peer_id, root))
        data = manifest.to_bytes()
        return data if len(data) <= MANIFEST_ALONG_BYTES_MAX else b""

    async def accept(
        self, delivery: Delivery, data: memoryview, opened: Open, seal: Seal, manifest_bytes: bytes = b""
    ) -> None:
        """Check delivered chunks against the manifest their sender committed to, and keep them; the manifest, too, if
        it came with them.
        """
        committed = {item.slot: item for item in seal.commitments}.get(delivery.slot)
        if committed is None or committed.node != delivery.node:
            raise RefusedError("the sender of these chunks has no sealed commitment in the round; they are not taken")
        root = committed.update_root
        if manifest_bytes and root not in self._manifests:
            self._manifests[root] = Manifest.from_bytes(manifest_bytes, root=root, kind="update")
        manifest = await self._manifest(root, opened.members[delivery.slot].peer)
        if max(delivery.chunks) >= len(manifest.chunks):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        refs = [manifest.chunks[chunk] for chunk in delivery.chunks]
        if tuple(ref.hash for ref in refs) != delivery.payloads or len(data) != sum(ref.size_bytes for ref in refs):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        await asyncio.to_thread(_keep_checked, self._store, refs, data, (root, manifest_bytes))

    def receipt(self, delivery: Delivery, late: tuple[int, ...] = ()) -> bytes:
        """Our signed word that chunks were checked and kept, of which ``late`` came too late to be averaged."""
        receipt = replace(delivery.receipt(self._account.address), late=late)
        signature = sign(self._account, self._domain, statement(self._job_id, receipt))
        return wire.encode(replace(receipt, signature=signature))

    async def reduce(self, effect: Reduce) -> Reduced:
        """Average a chunk whose senders are complete. What it averages is durable before it says so: audits ask for it,
        and a power cut would look as if it were withheld.
        """
        spec = await self.reduction(effect)
        roots = (item.update_root for item in effect.seal.commitments if item.slot in effect.senders)
        kept = [*(item.payload_hash for item in spec.contributions), *roots]
        result, _ = await asyncio.gather(self._reductions.average(spec), asyncio.to_thread(self._store.sync, kept))
        return Reduced(effect.open.round, effect.chunk, effect.senders, result)

    async def reduction(self, effect: Reduce) -> ReduceSpec:
        """What the trainer needs to average a chunk from these senders."""
        sealed = {item.slot: item for item in effect.seal.commitments}
        contributions = []
        for slot in effect.senders:
            member = effect.open.members[slot]
            manifest = await self._manifest(sealed[slot].update_root, member.peer)
            contributions.append(
                ReduceInput(slot, manifest.chunks[effect.chunk].hash, sealed[slot].samples, sealed[slot].steps)
            )
        return ReduceSpec(self._job_id, effect.open.round, effect.chunk, effect.open.refresh, tuple(contributions))

    async def gather(self, opened: Open, result: Result, coordinator_peer: str) -> None:
        """Bring a round's averaged chunks here, from their reducers and the coordinator, else from other members."""
        makers = {entry.result: opened.members[entry.reducer].peer for entry in result.chunks}
        others = [member.peer for member in opened.members if member.peer != self._peer.peer_id]
        await fetch_payloads(self._peer, self._store, makers, coordinator_peer, others)

    async def _manifest(self, root: str, source: str) -> Manifest:
        if root not in self._manifests:
            self._manifests[root] = await fetch_manifest(
                self._peer, self._store, root, "update", [source], size_max_bytes=UPDATE_BYTES_MAX
            )
        return self._manifests[root]


def cut_delivery(deliver: Deliver, chunks: float, chunks_in_all: int) -> list[Deliver]:
    """The order in pieces of about so many chunks, and of no fewer than leave room in one claim for the receipts of an
    update of ``chunks_in_all``.
    """
    size = max(1, -(-chunks_in_all // RECEIPTS_MAX), int(min(chunks, len(deliver.chunks))))
    starts = range(0, len(deliver.chunks), size)
    return [replace(deliver, chunks=deliver.chunks[start : start + size]) for start in starts]


def split_delivery(request: bytes) -> tuple[str, Delivery, bytes, memoryview]:
    """Parse a delivery from a stream: job id, header, manifest (it may be empty), payloads one after the other."""
    if len(request) < _HEADER.size:
        raise BreachError("a delivery without header is not taken; update AnyNode", Offence.SCHEMA)
    job, length, manifest_length = _HEADER.unpack_from(request)
    begin, body = _HEADER.size + length, _HEADER.size + length + manifest_length
    if length > HEADER_BYTES_MAX or manifest_length > MANIFEST_ALONG_BYTES_MAX or body > len(request):
        raise BreachError("a delivery with a malformed header is not taken; update AnyNode", Offence.SCHEMA)
    delivery = wire.parse_delivery(request[_HEADER.size : begin])
    return job.decode(errors="replace"), delivery, request[begin:body], memoryview(request)[body:]


def _keep_checked(store: BlobStore, refs: Sequence[ChunkRef], data: memoryview, manifest: tuple[str, bytes]) -> None:
    """Keep chunks, each checked, and the ``manifest`` (its root, and its checked bytes or nothing)."""
    root, manifest_bytes = manifest
    if manifest_bytes:
        store.keep(root, manifest_bytes)
    start = 0
    for ref in refs:
        payload = data[start : start + ref.size_bytes]
        start += ref.size_bytes
        if hash_hex(payload) != ref.hash:
            raise BreachError("a chunk does not hash to what its header says; it is not taken", Offence.HASH)
        store.keep(ref.hash, payload)
