"""Averages a past round again, without some of its slots, from the updates that others keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from anynode.blobs.manifest import Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds.corrections import Past, outcome
from anynode.rounds.judgements import CorrectedRound
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.worker.exchange import UPDATE_BYTES_MAX
from anynode_contracts.errors import RefusedError, UnreachableError

Chunks = Mapping[int, tuple[int, ...]]
"""The slots whose updates each of these chunks averages."""


class Averager:
    """Of one job. ``peers_now`` gives the libp2p peer of each node, ``others`` those of further keepers."""

    def __init__(
        self,
        job_id: str,
        *,
        peer: Peer,
        store: BlobStore,
        trainers: TrainerKeeper,
        peers_now: Callable[[], Mapping[str, str]],
        others: Callable[[], list[str]],
    ) -> None:
        self._job_id, self._peer, self._store, self._trainers = job_id, peer, store, trainers
        self._peers_now, self._others = peers_now, others

    async def without(self, past: Past, out: frozenset[int]) -> CorrectedRound:
        """What is left of a round, chunk by chunk; a chunk that holds nothing of the slots ``out`` stays as it is.

        Raises ``RefusedError`` when its updates are out of reach or one of them is not fit to be averaged.
        """
        senders, steps = outcome(past, out)
        changed = {
            chunk: after
            for chunk, (before, after) in enumerate(zip(past.senders(), senders, strict=False))
            if before != after
        }
        results = list(past.results[: len(senders)])
        if changed:
            averages = await (await self._trainers.get()).reduce(await self._orders(past, changed))
            for chunk, average in zip(changed, averages, strict=True):
                if isinstance(average, RefusedError):
                    raise average
                results[chunk] = average
            await asyncio.to_thread(self._store.sync, results)
        return CorrectedRound(past.open.round, tuple(results), steps)

    async def _orders(self, past: Past, chunks: Chunks) -> list[ReduceSpec]:
        manifests = await self._gathered(past, chunks)
        sealed = {item.slot: item for item in past.seal.commitments}
        return [
            ReduceSpec(
                job_id=self._job_id,
                round=past.open.round,
                chunk_index=chunk,
                refresh=past.open.refresh,
                contributions=tuple(
                    ReduceInput(slot, manifests[slot].chunks[chunk].hash, sealed[slot].samples, sealed[slot].steps)
                    for slot in slots
                ),
            )
            for chunk, slots in chunks.items()
        ]

    async def _gathered(self, past: Past, chunks: Chunks) -> dict[int, Manifest]:
        """Bring chunks of these slots' updates here, from who reduced them or else from anybody; the manifests."""
        roots = {item.slot: item.update_root for item in past.seal.commitments}
        members, now = past.open.members, self._peers_now()
        peers = [now.get(member.node, member.peer) for member in members]
        everybody = list(dict.fromkeys([*self._others(), *now.values(), *peers]))
        needed = sorted({slot for slots in chunks.values() for slot in slots})
        try:
            manifests = {
                slot: await fetch_manifest(
                    self._peer,
                    self._store,
                    roots[slot],
                    "update",
                    list(dict.fromkeys([peers[slot], *everybody])),
                    size_max_bytes=UPDATE_BYTES_MAX,
                )
                for slot in needed
            }
            makers = {
                manifests[slot].chunks[chunk].hash: peers[past.result.chunks[chunk].reducer]
                for chunk, slots in chunks.items()
                for slot in slots
            }
            await fetch_payloads(self._peer, self._store, makers, others=everybody)
        except UnreachableError as error:
            raise RefusedError(
                f"the updates of round {past.open.round} are not kept by anybody who can be reached ({error}); "
                "ask again when its members are back"
            ) from error
        return manifests
