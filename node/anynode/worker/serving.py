"""What a worker answers to others in its rounds: blobs, pushed records, delivered chunks, and traces for verifiers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from anynode.blobs.store import BlobStore
from anynode.rounds import wire
from anynode.rounds.chain import RecordLog
from anynode.rounds.effects import Acknowledge
from anynode.rounds.records import SignedRecord
from anynode.swarm.blob_exchange import serve_blobs
from anynode.swarm.hashes import split_hash
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.worker.exchange import DELIVERY_BYTES_MAX, Exchange, split_delivery
from anynode.worker.link import ASK_RATE, DELIVERY, PUSH, TALK_RATE, TRACE, CoordinatorLink
from anynode.worker.receipt_book import Given, ReceiptBook
from anynode.worker.traces import TRACE_REQUEST_BYTES_MAX, Traces, encode_leaves, parse_trace_request
from anynode.worker.waits import MemberDriver, has_seal
from anynode_contracts.errors import RefusedError

SEAL_WAIT_S = 20.0


class Serving:
    """Answers for one job. ``driver`` gives the core, ``ingest`` takes pushed records in, which follow those of
    ``records``, ``may_give`` says which blobs are not private.
    """

    def __init__(
        self,
        job_id: str,
        *,
        peer: Peer,
        store: BlobStore,
        link: CoordinatorLink,
        exchange: Exchange,
        book: ReceiptBook,
        traces: Traces,
        driver: Callable[[], MemberDriver],
        ingest: Callable[[tuple[SignedRecord, ...]], Awaitable[None]],
        records: RecordLog,
        may_give: Callable[[str], bool],
    ) -> None:
        self._job_id, self._peer, self._store, self._link = job_id, peer, store, link
        self._exchange, self._book, self._traces = exchange, book, traces
        self._driver, self._ingest, self._records, self._may_give = driver, ingest, records, may_give

    async def serve(self) -> None:
        """Answer from now on."""
        await serve_blobs(self._peer, self._store, allow=lambda _, digest: self._may_give(digest))
        await serve_payloads(self._peer, self._store, allow=lambda _, digest: self._may_give(digest))
        await self._peer.serve(PUSH, self._on_push, limit_bytes=wire.RECORDS_BYTES_MAX, rate=TALK_RATE)
        await self._peer.serve(DELIVERY, self._on_delivery, limit_bytes=DELIVERY_BYTES_MAX)
        await self._peer.serve(TRACE, self._on_trace, limit_bytes=TRACE_REQUEST_BYTES_MAX, rate=ASK_RATE)

    async def _on_push(self, peer_id: str, request: bytes) -> bytes:
        job_id, records = split_hash(request)
        if job_id != self._job_id:
            raise RefusedError("this node works on another job; it takes no records of this one")
        await self._ingest(wire.parse_push(records, self._records.roster))
        return b""

    async def _on_delivery(self, peer_id: str, request: bytes) -> bytes:
        job_id, delivery, manifest, data = split_delivery(request)
        driver = self._driver()
        if job_id != self._job_id:
            raise RefusedError("this node works on another job; it takes no chunks of this one")
        # The seal may still be on its way here when the sender has it already.
        await driver.wait_for(lambda state: has_seal(state, delivery.round), SEAL_WAIT_S)
        state = driver.state
        if not has_seal(state, delivery.round) or state.open is None or state.seal is None:
            raise RefusedError(f"round {delivery.round} is not sealed here; send the chunk again later")
        if delivery.slot >= len(state.open.members) or all(item.peer != peer_id for item in state.open.members):
            # Who brings a chunk matters little, since it must be the one its sender committed to: witnesses do as well.
            raise RefusedError("a chunk must come from a member of the round; it is not taken")
        await self._exchange.accept(delivery, data, state.open, state.seal, manifest)
        accepted = await driver.feed(delivery, reply=lambda effect: isinstance(effect, Acknowledge))
        if not accepted:
            raise RefusedError(f"round {delivery.round} is over here; the chunk is not needed")
        late = next((effect.late for effect in accepted if isinstance(effect, Acknowledge)), ())
        in_time = tuple(chunk for chunk in delivery.chunks if chunk not in late)
        if in_time:
            self._book.note(Given(round=delivery.round, slot=delivery.slot, chunks=in_time))
        return self._exchange.receipt(delivery, late)

    async def _on_trace(self, peer_id: str, request: bytes) -> bytes:
        """Open the trace of a round to a verifier, and to nobody that may have to audit it: what each segment began
        and ended with.
        """
        job_id, round_ = parse_trace_request(request)
        if peer_id not in self._link.verifier_peers:
            raise RefusedError("traces are opened only to verifiers of this network")
        leaves = await asyncio.to_thread(self._traces.of, round_)
        if job_id != self._job_id or not leaves:
            raise RefusedError("this node keeps no trace of that round; replay it without")
        return encode_leaves(leaves)
