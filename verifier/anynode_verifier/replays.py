"""Audits by recomputation: the evidence that a worker's hardware class allows, and what it decides.

Work of a class that the verifier has is replayed from its start and compared hash by hash. Work of another class is
judged by segments that its worker opens, where thresholds for the two classes are frozen. What exceeds them accuses
nobody: the machine makes the worker's class if it can and replays that segment exactly; where it cannot, the work is
void. And a first exact mismatch accuses nobody either: the core asks again, a fresh process replays the segment in
which it lies, or the round where the worker shows no trace, and only when both differ is the work rejected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from anynode import __version__
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.audit_secrets import draw_segments, segment_seed
from anynode.rounds.course import Committed
from anynode.rounds.effects import AskAuditor, Recompute, Replay
from anynode.rounds.events import Answered, Recomputed, Replayed
from anynode.rounds.judgements import Evidence, Outcome, Redone
from anynode.swarm.peer import Peer
from anynode.training.messages import Claim, Opened, OpenedClaim, ReplayVerdict, SegmentsReplay, WorkSpec
from anynode.training.opened import KIND
from anynode.training.trace import TraceLeaf, trace_root
from anynode.worker.link import TRACE
from anynode.worker.orders import work_order
from anynode.worker.traces import TRACE_BYTES_MAX, parse_leaves, trace_request
from anynode_contracts.errors import RefusedError, UserError
from anynode_verifier.asking_auditors import Asking
from anynode_verifier.auditors import Auditors
from anynode_verifier.calibration import Thresholds
from anynode_verifier.disputes import Disputed, Disputes
from anynode_verifier.drift import drift_of, excess
from anynode_verifier.effect_names import failure_key
from anynode_verifier.proofs import FraudProof, parse_proof
from anynode_verifier.residual import Residuals
from anynode_verifier.tolerant import Opener, fetch_state
from anynode_verifier.tries import Tries

log = logging.getLogger(__name__)

TRACE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """One slot's work under audit: what was committed, the order to do it again, the worker's peer. ``again``: it was
    replayed before, and a fresh process is to look at it. ``seed`` draws its segments, ``thresholds`` is the hash that
    its round has named.
    """

    round: int
    committed: Committed
    spec: WorkSpec
    worker: str
    again: bool
    seed: str
    thresholds: str

    @property
    def hardware(self) -> str:
        return self.committed.hardware


class Replayer:
    """Replays work of one job, one piece at a time. ``secret_of(round)`` is that round's audit secret; ``folder`` holds
    what workers open and replays keep. Fraud proofs go to ``store``, and with ``publishes`` so does the state before
    the disputed segment, for other verifiers. ``suspected(node)``: its audits lean, so it is replayed exactly.
    """

    def __init__(
        self,
        job: Job,
        peer: Peer,
        *,
        auditors: Auditors,
        opener: Opener,
        asking: Asking,
        thresholds: Thresholds,
        secret_of: Callable[[int], str],
        suspected: Callable[[str], bool],
        residuals: Residuals,
        folder: Path,
        store: BlobStore,
        publishes: bool,
    ) -> None:
        self._store, self._publishes = store, publishes
        self._job, self._peer, self._auditors, self._opener = job, peer, auditors, opener
        self._thresholds, self._secret_of, self._disputes = thresholds, secret_of, Disputes(folder)
        self._asking = asking
        self._suspected, self._residuals = suspected, residuals
        self._turn, self._tries = asyncio.Lock(), Tries()

    def decides(self, hardware: str) -> bool:
        """Whether a difference in work of a class can be proven here, as far as has been tried: only that slashes."""
        return self._auditors.makes(hardware) is True

    async def try_classes(self, lines: Iterable[str]) -> None:
        """Find out which classes this machine makes, of those that have not been tried yet."""
        for hardware in sorted(set(lines)):
            if self._auditors.makes(hardware) is None:
                async with self._turn:
                    await self._auditors.get(hardware)

    async def carry_out(self, effect: Replay | AskAuditor | Recompute) -> Replayed | Answered | Recomputed:
        """What the core asked for. Raises ``UserError`` when it cannot be done now."""
        match effect:
            case Replay():
                return await self.replay(effect)
            case AskAuditor():
                return await self._ask(effect)
            case Recompute():
                return await self.recompute(effect)

    async def _ask(self, effect: AskAuditor) -> Answered:
        """An auditor's answer. In a class that is not made here nobody could look at its proof, so nobody is asked."""
        hardware = effect.open.members[effect.plan.slot].hardware
        await self.try_classes([hardware])
        if not self.decides(hardware):
            return Answered(effect.open.round, effect.plan.slot, None, reason="not asked: this class is not made here")
        return await self._asking.task(effect)

    async def recompute(self, effect: Recompute) -> Recomputed:
        """An auditor's task, done here; nothing where this machine does not make the class, or the work has no end, nor
        after a few tries that failed.
        """
        async with self._turn:
            redone = await self._tries.outcome(failure_key(effect), self._redone(effect), lambda _: None)
        return Recomputed(effect.open.round, effect.plan.slot, effect.again, redone)

    async def _redone(self, effect: Recompute) -> Redone | None:
        opened, plan = effect.open, effect.plan
        committed = next(item for item in effect.seal.commitments if item.slot == plan.slot)
        spec = work_order(self._job, opened, plan.slot, plan.steps, committed.micro_batch)
        trainer = await self._auditors.get(committed.hardware, fresh=effect.again)
        if trainer is None:
            return None
        try:
            found = await trainer.recompute(spec, plan.key)
        except UserError as error:
            if not trainer.alive:
                raise
            log.info("round %d slot %d: cannot be done again: %s", opened.round, plan.slot, error)
            return None
        return Redone(found.update_root, trace_root(found.leaves), found.proof)

    async def replay(self, effect: Replay) -> Replayed:
        """The verdict on one slot. Raises ``UserError`` if it cannot be replayed now; after a few tries it is void."""
        case = self._case(effect)
        async with self._turn:  # so that its speed is that of one replay, and no process ends under another's hands
            found = await self._tries.outcome(
                failure_key(effect), self._judged(case), lambda why: self._void(case, why)
            )
            if case.again or found.outcome != "rejected":
                await asyncio.to_thread(self._disputes.forget, case.round, case.committed.slot)
            return found

    async def confirm(self, effect: Replay, proof: bytes, source: str) -> Replayed:
        """The verdict on a slot that another verifier has rejected: its disputed segment alone is replayed here, from
        the state that peer ``source`` keeps, or the round where that cannot be had.
        """
        case = self._case(effect)
        async with self._turn:
            try:
                await self._take_up(case, proof, source)
            except UserError as error:
                log.info("round %d slot %d: %s", case.round, case.committed.slot, error)
            found = await self._judged(case)
            await asyncio.to_thread(self._disputes.forget, case.round, case.committed.slot)
            return found

    async def _take_up(self, case: Case, data: bytes, source: str) -> None:
        """Take another's dispute for our own: nothing in it is trusted but what the trace binds."""
        proof = parse_proof(data, self._job.job_id, case.round, case.committed)
        claim, dispute = proof.claim(), proof.dispute
        if claim is None or dispute is None:
            raise RefusedError("the fraud proof names no segment; the round is replayed whole")
        if dispute.agreed:
            await fetch_state(self._peer, BlobStore(self._folder(case)), dispute.agreed, source, self._job)
        self._dispute(case, Disputed(claim, dispute.segment, dispute.agreed))

    def _case(self, effect: Replay) -> Case:
        committed = next(item for item in effect.seal.commitments if item.slot == effect.slot)
        spec = work_order(self._job, effect.open, effect.slot, committed.steps, committed.micro_batch)
        number, worker = effect.open.round, effect.open.members[effect.slot].peer
        seed = effect.seed or segment_seed(self._secret_of(number), "")
        return Case(number, committed, spec, worker, effect.again, seed, effect.open.thresholds)

    async def _judged(self, case: Case) -> Replayed:
        if case.committed.code_version != __version__:
            version = case.committed.code_version
            return self._void(case, f"done with AnyNode {version}, which this verifier ({__version__}) cannot repeat")
        disputed = self._disputes.of(case.round, case.committed.slot) if case.again else None
        decided = await self._by_segment(case, disputed) if disputed is not None else None
        if decided is not None and disputed is not None:
            return await self._exact_outcome(case, decided, disputed)
        if case.hardware in self._auditors.own:
            return await self._exactly(case) or self._void(case, "the verifier's own class cannot be made any more")
        auditor = self._auditors.beside(case.hardware)
        why = ""
        if not self._thresholds.covers(case.hardware, auditor, self._job.training):
            why = f"no thresholds are frozen for class {case.hardware}"
        elif case.thresholds != self._thresholds.digest:
            why = "its round opened under other thresholds than are frozen here"
        if why:
            return await self._exactly(case) or self._void(case, f"{why}, and no auditor has it")
        exact = await self._exactly(case) if self._suspected(case.committed.node) else None
        return exact or await self._tolerantly(case, auditor)

    async def close(self) -> None:
        """End the process; another replay starts it again."""
        await self._auditors.close()

    # ------------------------------------------------------------ exact evidence

    async def _exactly(self, case: Case) -> Replayed | None:
        """Replay in the worker's own class; None where this machine does not make it."""
        leaves = await self._opened_trace(case)
        claim = Claim(case.committed.update_root, case.committed.trace_root, leaves)
        trainer = await self._auditors.get(case.hardware, fresh=case.again)
        if trainer is None:
            return None
        began_s = time.monotonic()
        verdict = await trainer.replay(case.spec, claim, self._folder(case))
        speed = verdict.steps / max(time.monotonic() - began_s, 1e-3)
        agreed = verdict.dispute.agreed if verdict.dispute is not None else ""
        disputed = Disputed(claim, verdict.dispute.segment if verdict.dispute is not None else 0, agreed)
        if verdict.dispute is not None and not case.again:
            self._dispute(case, disputed)
        return replace(await self._exact_outcome(case, verdict, disputed), steps_per_s=speed)

    async def _exact_outcome(self, case: Case, verdict: ReplayVerdict, disputed: Disputed) -> Replayed:
        if verdict.accepted:
            return self._replayed(case, "accepted", "exact", verdict.reason)
        log.warning("round %d slot %d: %s", case.round, case.committed.slot, verdict.reason)
        reason = f"{verdict.reason}; it was asked because {disputed.asked}" if disputed.asked else verdict.reason
        found = self._replayed(case, "rejected", "exact", reason[:500])
        if not case.again:
            return found
        return replace(found, proof=await asyncio.to_thread(self._prove, case, verdict, disputed))

    def _prove(self, case: Case, verdict: ReplayVerdict, disputed: Disputed) -> str:
        """Store what the rejection rests on, so that it outlives a crash; its hash."""
        dispute = replace(verdict.dispute, agreed=disputed.agreed) if verdict.dispute is not None else None
        if disputed.agreed and self._publishes:
            kept = BlobStore(self._folder(case))
            for chunk in kept.manifest(disputed.agreed, KIND).chunks:
                self._store.put(kept.get(chunk.hash))
            self._store.put(kept.get(disputed.agreed))
        proof = FraudProof.of(
            self._job.job_id,
            case.round,
            case.committed,
            leaves=disputed.claim.leaves or (),
            dispute=dispute,
            reason=verdict.reason[:500],
            asked=disputed.asked[:500],
            auditor=self._opener.account.address,
        )
        digest = self._store.put(proof.to_bytes())
        self._store.sync([digest])
        return digest

    def _folder(self, case: Case) -> Path:
        return self._disputes.folder_of(case.round, case.committed.slot)

    def _dispute(self, case: Case, disputed: Disputed) -> None:
        self._disputes.open(case.round, case.committed.slot, disputed)

    async def _by_segment(self, case: Case, disputed: Disputed) -> ReplayVerdict | None:
        """Replay one segment in the worker's class, from the state before it; None where that cannot be done here."""
        trainer = await self._auditors.get(case.hardware, fresh=case.again)
        if trainer is None:
            return None
        segment, agreed = disputed.segment, disputed.agreed
        try:
            return await trainer.replay_disputed(case.spec, disputed.claim, segment, agreed, self._folder(case))
        except RefusedError as error:
            log.warning("round %d slot %d: %s", case.round, case.committed.slot, error)
            return None

    async def _opened_trace(self, case: Case) -> tuple[TraceLeaf, ...] | None:
        """The leaves behind a trace root, if the worker shows them: a replay then stops where they differ."""
        request = trace_request(self._job.job_id, case.round)
        try:
            data = await self._peer.call(case.worker, TRACE, request, TRACE_TIMEOUT_S, TRACE_BYTES_MAX)
            with self._peer.blaming(case.worker):
                leaves = parse_leaves(data)
        except UserError as error:
            log.info("round %d: no trace from the worker (%s); replayed without", case.round, error)
            return None
        return leaves if trace_root(leaves) == case.committed.trace_root else None

    # ------------------------------------------------------------ tolerant evidence

    async def _tolerantly(self, case: Case, auditor: str) -> Replayed:
        """Judge drawn segments in another class. Only what is wrong on any machine rejects, after a second look."""
        segments = draw_segments(case.seed, case.committed.slot, self._segments(case))
        try:
            opened = await self._opener.opened(case.worker, case.round, segments, self._folder(case))
        except UserError as error:
            return await self._undecided(case, f"its worker does not open it ({error})")
        claim = OpenedClaim(case.committed.update_root, case.committed.trace_root, opened, segments)
        found = await self._replay_segments(case, claim, auditor)
        if found.fault and found.exact:
            disputed = Disputed(Claim(claim.update_root, claim.trace_root, opened.leaves), 0, "")
            verdict = ReplayVerdict(False, found.fault, None, found.steps, found.seconds)
            return await self._exact_outcome(case, verdict, disputed)
        if found.fault or not found.segments:
            return await self._undecided(case, found.fault or "no segment was compared")
        exceeding = self._exceeding(case, auditor, found)
        if exceeding:
            decided = await self._by_segments(case, opened, exceeding)
            return replace(decided, segments=segments if decided.evidence == "tolerant" else ())
        names = f"segment {segments[0]}" if len(segments) == 1 else f"segments {', '.join(map(str, segments))}"
        said = f"{names} (of {len(opened.leaves)}) as close as honest machines come, all else equal"
        reason = f"{said} (thresholds {self._thresholds.digest[:16]})"
        residuals = await self._measured(case, auditor, found)
        return replace(self._replayed(case, "accepted", "tolerant", reason), residuals=residuals, segments=segments)

    async def _measured(self, case: Case, auditor: str, found: SegmentsReplay) -> tuple[int, ...]:
        """On which side of our own the accepted segments are."""
        thresholds = self._thresholds.between(case.hardware, auditor, found.phase)
        tolerance = thresholds[found.segments[0].tensors[0].vector].whole
        return await asyncio.to_thread(self._residuals.take, case.committed.node, found.segments, tolerance)

    async def _replay_segments(self, case: Case, claim: OpenedClaim, auditor: str) -> SegmentsReplay:
        trainer = await self._auditors.get(auditor, fresh=case.again)
        if trainer is None:
            raise UserError(f"class {auditor} cannot be made here any more; start the verifier again")
        seed = self._residuals.seed
        return await trainer.replay_segments(case.spec, claim, self._folder(case), sketch_seed=seed)

    def _exceeding(self, case: Case, auditor: str, found: SegmentsReplay) -> dict[int, str]:
        """The segments that are further apart than honest machines are, and how far, in words."""
        thresholds = self._thresholds.between(case.hardware, auditor, found.phase)
        said = {item.segment: excess(item.segment, drift_of(item), thresholds) for item in found.segments}
        return {segment: words for segment, words in said.items() if words}

    async def _by_segments(self, case: Case, opened: Opened, exceeding: Mapping[int, str]) -> Replayed:
        """Exact replay of the suspected segments in the worker's class decides, from the states that it has opened."""
        claim = Claim(case.committed.update_root, case.committed.trace_root, opened.leaves)
        roots = {0: "", **{item.boundary: item.root for item in opened.states}}
        for segment, words in exceeding.items():
            log.warning("round %d slot %d: %s", case.round, case.committed.slot, words)
            disputed = Disputed(claim, segment, roots[segment], f"{words} (thresholds {self._thresholds.digest[:16]})")
            verdict = await self._by_segment(case, disputed)
            if verdict is None:
                return self._void(case, f"{words}; no auditor has class {case.hardware} to decide it")
            if not verdict.accepted:
                if not case.again:
                    self._dispute(case, disputed)
                return await self._exact_outcome(case, verdict, disputed)
        names = ", ".join(map(str, exceeding))
        reason = f"segments {names}: replayed with equal bits in the worker's class, all else as close as is honest"
        return self._replayed(case, "accepted", "tolerant", reason)

    async def _undecided(self, case: Case, why: str) -> Replayed:
        """An exact replay in the worker's class decides, if this machine makes that; else nobody can."""
        log.warning("round %d slot %d: %s", case.round, case.committed.slot, why)
        decided = await self._exactly(case)
        if decided is None:
            return self._void(case, f"{why}; no auditor has class {case.hardware} to decide it")
        return replace(decided, reason=f"{decided.reason}; it was asked because {why}"[:500])

    def _void(self, case: Case, why: str) -> Replayed:
        return self._replayed(case, "void", "none", why[:500])

    def _replayed(self, case: Case, outcome: Outcome, evidence: Evidence, reason: str, speed: float = 0.0) -> Replayed:
        """``speed`` in steps a second, zero where it was not measured: of segments alone it would mislead."""
        return Replayed(case.round, case.committed.slot, outcome, evidence, reason, case.again, speed)

    def _segments(self, case: Case) -> int:
        return -(-case.committed.steps // self._job.training.segment_steps)
