"""New records to the members, in their order: one call at a time to each peer, with all that has come since the last.

A record that overtook the one before it could not be read, and its member would wait for its next sync.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from anynode.rounds import wire
from anynode.rounds.chain import RecordLog
from anynode.rounds.coordination import Node
from anynode.rounds.packing import RECORDS_MAX
from anynode.swarm.blob_exchange import Caller
from anynode.worker.link import PUSH
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)

PUSH_TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 64


def reachable(nodes: Iterable[Node], heard_since: float) -> list[str]:
    """The peers of the joined members that can be called and were heard since."""
    return [node.peer for node in nodes if node.joined and node.reduces and node.seen_at > heard_since]


class Pushing:
    """Pushes the records of ``chain`` to peers that are named one by one."""

    def __init__(self, chain: RecordLog, peer: Caller) -> None:
        self._chain, self._peer = chain, peer
        self._busy: set[str] = set()
        self._encoded: dict[tuple[int, int], bytes] = {}

    async def push(self, peer_id: str, height: int) -> None:
        """Push the records from ``height`` on until the peer has the newest, unless that is being done. What a peer
        misses it asks for with its next sync.
        """
        if peer_id in self._busy:
            return
        self._busy.add(peer_id)
        try:
            while height < len(self._chain.records):
                end = min(height + RECORDS_MAX, len(self._chain.records))
                await self._peer.call(peer_id, PUSH, self._run(height, end), PUSH_TIMEOUT_S, ANSWER_BYTES_MAX)
                height = end
        except UserError as error:
            log.debug("no push to %s: %s", peer_id, error)
        finally:
            self._busy.discard(peer_id)

    def _run(self, height: int, end: int) -> bytes:
        """The records of a run as they are pushed; most peers get the same one."""
        if (height, end) not in self._encoded:
            records = tuple(self._chain.records[height:end])
            if any(known != end for _, known in self._encoded):
                self._encoded.clear()
            self._encoded[height, end] = self._chain.job.encode() + wire.encode_push(records, self._chain.roster)
        return self._encoded[height, end]
