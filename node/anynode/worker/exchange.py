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
from anynode.rounds.records import Open, Seal
from anynode.rounds.statements import statement
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.peer import Peer
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.worker.link import DELIVERY
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check, sign

_HEADER = struct.Struct(">64sI")
DELIVERY_BYTES_MAX = _HEADER.size + 4096 + CHUNK_BYTES_MAX
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
        """The header of one of our own chunks."""
        manifest = self._store.manifest(deliver.update_root, "update")
        return Delivery(
            kind="delivery",
            node=self._account.address,
            round=deliver.round,
            attempt=deliver.attempt,
            chunk=deliver.chunk,
            slot=deliver.slot,
            payload=manifest.chunks[deliver.chunk].hash,
        )

    async def deliver(self, deliver: Deliver, opened: Open) -> DeliveryReceipt:
        """Hand over one of our chunks and return the reducer's checked receipt."""
        delivery = self.payload(deliver)
        reducer = opened.members[deliver.to_slot]
        data = await asyncio.to_thread(self._store.get, delivery.payload)
        header = wire.encode(delivery)
        request = _HEADER.pack(self._job_id.encode(), len(header)) + header + data
        answer = await self._peer.call(reducer.peer, DELIVERY, request, DELIVERY_TIMEOUT_S, RECEIPT_BYTES_MAX)
        receipt = wire.parse_delivery_receipt(answer)
        same = (receipt.round, receipt.attempt, receipt.chunk, receipt.slot, receipt.payload)
        if same != (delivery.round, delivery.attempt, delivery.chunk, delivery.slot, delivery.payload):
            raise RefusedError("the reducer's receipt is for another chunk; it is ignored")
        check(self._domain, statement(self._job_id, receipt), receipt.signature, reducer.node)
        return receipt

    async def accept(self, delivery: Delivery, data: bytes, opened: Open, seal: Seal) -> None:
        """Check a delivered chunk against the manifest its sender committed to, and keep it."""
        committed = {item.slot: item for item in seal.commitments}.get(delivery.slot)
        if committed is None or committed.node != delivery.node:
            raise RefusedError("this chunk's sender has no sealed commitment in the round; it is not taken")
        member = opened.members[delivery.slot]
        manifest = await self._manifest(committed.update_root, member.peer)
        if delivery.chunk >= len(manifest.chunks) or manifest.chunks[delivery.chunk].hash != delivery.payload:
            raise RefusedError("this chunk is not the one its sender committed to; it is not taken")
        if await asyncio.to_thread(hash_hex, data) != delivery.payload:
            raise RefusedError("this chunk does not hash to what its header says; it is not taken")
        await asyncio.to_thread(self._store.put, data)

    def receipt(self, delivery: Delivery) -> bytes:
        """Our signed word that a chunk was checked and kept."""
        receipt = DeliveryReceipt(
            kind="delivery_receipt",
            node=self._account.address,
            round=delivery.round,
            attempt=delivery.attempt,
            chunk=delivery.chunk,
            slot=delivery.slot,
            payload=delivery.payload,
        )
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


def split_delivery(request: bytes) -> tuple[str, Delivery, bytes]:
    """Parse a delivery from a stream: job id, header, payload."""
    if len(request) < _HEADER.size:
        raise RefusedError("a delivery without header is not taken; update AnyNode")
    job, length = _HEADER.unpack_from(request)
    if length > 4096 or _HEADER.size + length > len(request):
        raise RefusedError("a delivery with a malformed header is not taken; update AnyNode")
    body = _HEADER.size + length
    return job.decode(errors="replace"), wire.parse_delivery(request[_HEADER.size : body]), request[body:]
