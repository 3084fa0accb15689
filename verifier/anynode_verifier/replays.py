"""Audits by recomputation: replay a slot's work in the same hardware class and compare hashes.

A first mismatch accuses nobody: a fresh process replays once more, and only when both differ is the work rejected.
"""

from __future__ import annotations

import logging

from anynode.jobs.job import Job
from anynode.rounds.effects import Replay
from anynode.rounds.messages import Replayed
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Claim
from anynode.training.trace import TraceLeaf, trace_root
from anynode.worker.link import TRACE
from anynode.worker.opening import TRACE_BYTES_MAX, parse_leaves
from anynode.worker.orders import work_order
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)

TRACE_TIMEOUT_S = 20.0


class Replayer:
    """Replays work of one job. One replay runs at a time; `trainers` is its own process."""

    def __init__(self, job: Job, peer: Peer, trainers: TrainerKeeper) -> None:
        self._job, self._peer, self._trainers = job, peer, trainers

    async def replay(self, effect: Replay) -> Replayed:
        """The verdict on one slot. Raises ``UserError`` when it cannot be replayed now."""
        opened = effect.open
        committed = next(item for item in effect.seal.commitments if item.slot == effect.slot)
        member = opened.members[effect.slot]
        trainer = await self._trainers.get()
        spec = work_order(self._job, opened, effect.slot, committed.steps, committed.micro_batch)
        leaves = await self._opened_trace(member.peer, opened.round, committed.trace_root)
        claim = Claim(committed.update_root, committed.trace_root, leaves)
        verdict = await trainer.replay(spec, claim)
        if not verdict.accepted:
            log.warning("round %d slot %d: %s; replayed once more", opened.round, effect.slot, verdict.reason)
            verdict = await (await self._trainers.renew()).replay(spec, claim)
        return Replayed(opened.round, effect.slot, verdict.accepted, verdict.reason)

    async def close(self) -> None:
        """End the process; another replay starts it again."""
        await self._trainers.close()

    async def _opened_trace(self, peer: str, round_: int, root: str) -> tuple[TraceLeaf, ...] | None:
        """The leaves behind a trace root, if the worker shows them: a replay then stops where they differ."""
        request = f"{self._job.job_id} {round_}".encode()
        try:
            leaves = parse_leaves(await self._peer.call(peer, TRACE, request, TRACE_TIMEOUT_S, TRACE_BYTES_MAX))
        except UserError as error:
            log.info("round %d: no trace from the worker (%s); replayed without", round_, error)
            return None
        return leaves if trace_root(leaves) == root else None
