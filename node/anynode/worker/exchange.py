"""The exchange of one round at its edges: a pipeline of chunks from senders to reducers and back to all.

Chunks leave in batches, a few of them on their way to each peer and a bounded number in all, so that memory holds some
batches and never a whole update. Each chunk that arrives is checked against the manifest its sender has committed to
before it is used; a reducer averages one as soon as its senders are complete, while others still arrive.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eth_account.signers.local import LocalAccount

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds import wire
from anynode.rounds.effects import Deliver, Reduce
from anynode.rounds.messages import Delivery, DeliveryReceipt, Reduced
from anynode.rounds.records import CHUNKS_PER_MESSAGE_MAX, Open, Result, Seal
from anynode.rounds.statements import statement
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.worker.link import DELIVERY
from anynode.worker.reductions import Reductions
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError
from anynode_contracts.signing import SigningDomain, check, sign

_HEADER = struct.Struct(">64sI")
HEADER_BYTES_MAX = 4096
DELIVERY_BYTES_MAX = _HEADER.size + HEADER_BYTES_MAX + CHUNKS_PER_MESSAGE_MAX * CHUNK_BYTES_MAX
RECEIPT_BYTES_MAX = 4096
DELIVERY_TIMEOUT_S = 120.0
UPDATE_BYTES_MAX = 64 << 30
DELIVERIES_PER_PEER = 2
"""One is checked there while the next is on its way."""
DELIVERIES_AT_ONCE = 8


@dataclass(slots=True)
class Delivered:
    """What has been delivered to a peer so far: payload bytes, and the seconds in which they were on their way."""

    payload_bytes: int = 0
    seconds: float = 0.0


class Exchange:
    """Sends and receives chunks of updates for job ``job_id``. Holds the manifests of the round's senders.

    ``delivered`` counts, by peer id, what that peer has taken and receipted.
    """

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
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(DELIVERIES_PER_PEER))
        self._all_turns = asyncio.Semaphore(DELIVERIES_AT_ONCE)
        self.delivered: defaultdict[str, Delivered] = defaultdict(Delivered)

    def forget(self) -> None:
        """A new round begins: the old manifests are in the store if anyone asks."""
        self._manifests.clear()
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

    async def deliver(self, deliver: Deliver, opened: Open) -> DeliveryReceipt:
        """Hand over some chunks when it is their turn, and return the checked receipt."""
        delivery = await self.payload(deliver, opened)
        receiver = opened.members[deliver.to_slot]
        header = wire.encode(delivery)
        async with self._turns[receiver.peer], self._all_turns:
            payloads = await asyncio.to_thread(lambda: [self._store.get(payload) for payload in delivery.payloads])
            request = b"".join((_HEADER.pack(self._job_id.encode(), len(header)), header, *payloads))
            began_s = time.monotonic()
            answer = await self._peer.call(receiver.peer, DELIVERY, request, DELIVERY_TIMEOUT_S, RECEIPT_BYTES_MAX)
            seconds = time.monotonic() - began_s
        with self._peer.blaming(receiver.peer):
            receipt = wire.parse_delivery_receipt(answer)
            if replace(receipt, signature="") != receipt_for(delivery, receiver.node):
                raise RefusedError("the receipt is for other chunks; it is ignored")
            said = statement(self._job_id, receipt)
            await asyncio.to_thread(check, self._domain, said, receipt.signature, receiver.node)
        sofar = self.delivered[receiver.peer]
        sofar.payload_bytes += sum(map(len, payloads))
        sofar.seconds += seconds
        return receipt

    async def accept(self, delivery: Delivery, data: memoryview, opened: Open, seal: Seal) -> None:
        """Check delivered chunks against the manifest their sender committed to, and keep them."""
        committed = {item.slot: item for item in seal.commitments}.get(delivery.slot)
        if committed is None or committed.node != delivery.node:
            raise RefusedError("the sender of these chunks has no sealed commitment in the round; they are not taken")
        manifest = await self._manifest(committed.update_root, opened.members[delivery.slot].peer)
        if max(delivery.chunks) >= len(manifest.chunks):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        refs = [manifest.chunks[chunk] for chunk in delivery.chunks]
        if tuple(ref.hash for ref in refs) != delivery.payloads or len(data) != sum(ref.size_bytes for ref in refs):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        await asyncio.to_thread(_keep_checked, self._store, refs, data)

    async def receipt(self, delivery: Delivery) -> bytes:
        """Our signed word that chunks were checked and kept."""
        receipt = receipt_for(delivery, self._account.address)
        signature = await asyncio.to_thread(sign, self._account, self._domain, statement(self._job_id, receipt))
        return wire.encode(replace(receipt, signature=signature))

    async def reduce(self, effect: Reduce) -> Reduced:
        """Average a chunk whose senders are complete."""
        result = await self._reductions.average(await self.reduction(effect))
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


def receipt_for(delivery: Delivery, receiver: str) -> DeliveryReceipt:
    """The receipt, not yet signed, that ``receiver`` gives for a delivery."""
    return DeliveryReceipt(
        kind="delivery_receipt",
        node=receiver,
        round=delivery.round,
        attempt=delivery.attempt,
        slot=delivery.slot,
        reducer=delivery.reducer,
        chunks=delivery.chunks,
        payloads=delivery.payloads,
    )


def split_delivery(request: bytes) -> tuple[str, Delivery, memoryview]:
    """Parse a delivery from a stream: job id, header, payloads one after the other."""
    if len(request) < _HEADER.size:
        raise BreachError("a delivery without header is not taken; update AnyNode", Offence.SCHEMA)
    job, length = _HEADER.unpack_from(request)
    if length > HEADER_BYTES_MAX or _HEADER.size + length > len(request):
        raise BreachError("a delivery with a malformed header is not taken; update AnyNode", Offence.SCHEMA)
    body = _HEADER.size + length
    delivery = wire.parse_delivery(request[_HEADER.size : body])
    return job.decode(errors="replace"), delivery, memoryview(request)[body:]


def _keep_checked(store: BlobStore, refs: Sequence[ChunkRef], data: memoryview) -> None:
    start = 0
    for ref in refs:
        payload = data[start : start + ref.size_bytes]
        start += ref.size_bytes
        if hash_hex(payload) != ref.hash:
            raise BreachError("a chunk does not hash to what its header says; it is not taken", Offence.HASH)
        store.keep(ref.hash, payload)
