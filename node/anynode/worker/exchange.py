"""The exchange of one round at its edges: hand chunks to their reducers, and check what senders hand to us."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace

from eth_account.signers.local import LocalAccount

from anynode.blobs.manifest import CHUNK_BYTES_MAX, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds import wire
from anynode.rounds.effects import Deliver, Reduce
from anynode.rounds.messages import Delivery, DeliveryReceipt
from anynode.rounds.records import CHUNKS_PER_MESSAGE_MAX, Open, Seal
from anynode.rounds.statements import statement
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.peer import Peer
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.worker.link import DELIVERY
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError
from anynode_contracts.signing import SigningDomain, check, sign

_HEADER = struct.Struct(">64sI")
DELIVERY_BYTES_MAX = _HEADER.size + 4096 + CHUNKS_PER_MESSAGE_MAX * CHUNK_BYTES_MAX
RECEIPT_BYTES_MAX = 4096
DELIVERY_TIMEOUT_S = 120.0
UPDATE_BYTES_MAX = 64 << 30


class Exchange:
    """Sends and receives chunks of updates for job ``job_id``. Holds the manifests of the round's senders."""

    def __init__(self, job_id: str, peer: Peer, store: BlobStore, domain: SigningDomain, account: LocalAccount) -> None:
        self._job_id, self._peer, self._store = job_id, peer, store
        self._domain, self._account = domain, account
        self._manifests: dict[str, Manifest] = {}

    def forget(self) -> None:
        """A new round begins: the old manifests are in the store if anyone asks."""
        self._manifests.clear()

    def payload(self, deliver: Deliver) -> Delivery:
        """The header of some of our own chunks."""
        manifest = self._store.manifest(deliver.update_root, "update")
        return Delivery(
            kind="delivery",
            node=self._account.address,
            round=deliver.round,
            attempt=deliver.attempt,
            slot=deliver.slot,
            reducer=deliver.for_slot,
            chunks=deliver.chunks,
            payloads=tuple(manifest.chunks[chunk].hash for chunk in deliver.chunks),
        )

    async def deliver(self, deliver: Deliver, opened: Open) -> DeliveryReceipt:
        """Hand over some of our chunks and return the checked receipt."""
        delivery = self.payload(deliver)
        receiver = opened.members[deliver.to_slot]
        payloads = [await asyncio.to_thread(self._store.get, payload) for payload in delivery.payloads]
        header = wire.encode(delivery)
        request = b"".join((_HEADER.pack(self._job_id.encode(), len(header)), header, *payloads))
        answer = await self._peer.call(receiver.peer, DELIVERY, request, DELIVERY_TIMEOUT_S, RECEIPT_BYTES_MAX)
        with self._peer.blaming(receiver.peer):
            receipt = wire.parse_delivery_receipt(answer)
            if replace(receipt, signature="") != receipt_for(delivery, receiver.node):
                raise RefusedError("the receipt is for other chunks; it is ignored")
            check(self._domain, statement(self._job_id, receipt), receipt.signature, receiver.node)
        return receipt

    async def accept(self, delivery: Delivery, data: bytes, opened: Open, seal: Seal) -> None:
        """Check delivered chunks against the manifest their sender committed to, and keep them."""
        committed = {item.slot: item for item in seal.commitments}.get(delivery.slot)
        if committed is None or committed.node != delivery.node:
            raise RefusedError("the sender of these chunks has no sealed commitment in the round; they are not taken")
        member = opened.members[delivery.slot]
        manifest = await self._manifest(committed.update_root, member.peer)
        if max(delivery.chunks) >= len(manifest.chunks):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        refs = [manifest.chunks[chunk] for chunk in delivery.chunks]
        if tuple(ref.hash for ref in refs) != delivery.payloads or len(data) != sum(ref.size_bytes for ref in refs):
            raise BreachError("these chunks are not those their sender committed to; they are not taken", Offence.HASH)
        start = 0
        for ref in refs:
            payload = data[start : start + ref.size_bytes]
            start += ref.size_bytes
            if await asyncio.to_thread(hash_hex, payload) != ref.hash:
                raise BreachError("a chunk does not hash to what its header says; it is not taken", Offence.HASH)
            await asyncio.to_thread(self._store.put, payload)

    def receipt(self, delivery: Delivery) -> bytes:
        """Our signed word that chunks were checked and kept."""
        receipt = receipt_for(delivery, self._account.address)
        signature = sign(self._account, self._domain, statement(self._job_id, receipt))
        return wire.encode(replace(receipt, signature=signature))

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


def split_delivery(request: bytes) -> tuple[str, Delivery, bytes]:
    """Parse a delivery from a stream: job id, header, payload."""
    if len(request) < _HEADER.size:
        raise BreachError("a delivery without header is not taken; update AnyNode", Offence.SCHEMA)
    job, length = _HEADER.unpack_from(request)
    if length > 4096 or _HEADER.size + length > len(request):
        raise BreachError("a delivery with a malformed header is not taken; update AnyNode", Offence.SCHEMA)
    body = _HEADER.size + length
    return job.decode(errors="replace"), wire.parse_delivery(request[_HEADER.size : body]), request[body:]
