"""What a verifier checks of a record that another proposes, and how it keeps up with the rounds of that one.

It follows the chain like an auditor, applies every round itself, and repeats every rejection before it signs it, every
admission, and a share of the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.audit_secrets import segment_seed
from anynode.rounds.claims import blamed, passed_over
from anynode.rounds.corrections import run_to, slots_by_round
from anynode.rounds.course import Assign, Begin, ChunkResult, Close, Finish, Open, Reason, Result, Seal
from anynode.rounds.effects import AverageAgain, Recompute, Replay
from anynode.rounds.enquiries import task_key, task_seed
from anynode.rounds.events import Plan, Replayed
from anynode.rounds.judgements import Claimed, Correct, Outcome, Ruling, Verdict
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing
from anynode.swarm.payloads import SILENT_S, fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.worker.home import JobHome
from anynode.worker.orders import apply_order, run_order
from anynode.worker.states import fetch_state
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.averaging import Averager
from anynode_verifier.block_checks import BlockChecks
from anynode_verifier.chunk_audits import ChunkAuditor
from anynode_verifier.lineage import Reader, Round
from anynode_verifier.readable import unreadable
from anynode_verifier.repeats import Repeats
from anynode_verifier.replays import Replayer
from anynode_verifier.withholding import AskSealer

log = logging.getLogger(__name__)


class Follower:
    """Checks one job's records. ``sources`` names the libp2p peers of the other verifiers, ``keeper`` that of the one
    on duty, if it is another: it has all averages before it names them. ``draws`` says of which work this one repeats
    the acceptance; ``has_ended`` says whether the job is over on the chain.
    """

    def __init__(
        self,
        job: Job,
        domain: SigningDomain,
        *,
        start_root: str,
        home: JobHome,
        store: BlobStore,
        peer: Peer,
        trainers: TrainerKeeper,
        replayer: Replayer,
        draws: Callable[[int, int], bool],
        chunk_auditor: ChunkAuditor,
        averager: Averager,
        blocks: BlockChecks,
        ask_sealer: AskSealer,
        claims_of: Callable[[int], Mapping[int, tuple[Claimed, ...]]],
        sources: Callable[[], list[str]],
        keeper: Callable[[], str],
        has_ended: Callable[[], bool],
    ) -> None:
        self._job, self._reader = job, Reader(job, domain)
        self._start_root, self._home, self._store, self._peer = start_root, home, store, peer
        self._trainers, self._replayer, self._averager = trainers, replayer, averager
        self._chunk_auditor, self._blocks, self._sources, self._keeper = chunk_auditor, blocks, sources, keeper
        self._ask_sealer, self._claims_of, self._has_ended = ask_sealer, claims_of, has_ended
        self._checked: dict[str, Reader] = {}
        self._applying = asyncio.Lock()
        self._replayed: dict[tuple[int, int], str] = {}
        self.repeats = Repeats(self._replay, draws)
        self._heard: dict[tuple[int, int], bool] = {}
        self._roots: dict[int, str] = {}

    async def follows(self, record: Record, *, holder: str, prepared: bool) -> bool:
        """Whether ``record`` is the next of the chain, as far as this verifier can tell; the log says why not.
        ``prepared``: a quorum has found before that it does, that its blocks were new and its ``holder`` on duty then.
        """
        trial = self._reader.fork()
        try:
            await asyncio.to_thread(trial.take, record)
            await self._check_more(record)
            if not prepared:
                by_holder = not isinstance(record.body, Seal) or record.body.sealer == holder
                _require(by_holder, "it is sealed in another verifier's name than proposes it")
                await self._check_what_was_new(record)
        except UserError as error:
            log.warning("record %d (%s) is not signed here: %s", record.height, record.body.kind, error)
            return False
        self._checked[record.hash] = trial
        return True

    def take(self, record: Record) -> None:
        """A certified record: what comes next builds on it."""
        trial = self._checked.get(record.hash)
        self._checked = {}
        if isinstance(record.body, Verdict):
            self.repeats.forget(record.body.round)
        if trial is not None:
            self._reader = trial
            return
        try:
            self._reader.take(record)
        except UserError as error:
            log.error("others have certified what does not follow here; this verifier signs no more: %s", error)

    async def apply(self, opened: Open, result: Result) -> str:
        """Compute the state after a round here, from the state before and the averaged chunks; its root."""
        async with self._applying:
            number = result.round
            if number in self._roots:
                return self._roots[number]
            held_round, held_root = self._home.held()
            if (held_round, held_root) != (number, opened.state_root):
                await self._fetch_state(opened)
            await self.fetch_averages(opened, result.chunks)
            trainer = await self._trainers.get()
            root = await trainer.apply(apply_order(opened, result))
            await asyncio.to_thread(self._store.sync_blob, root, "state")
            await asyncio.to_thread(self._home.hold, number + 1, root)
            self._roots = {number: root}
            return root

    async def keep_up(self, opened: Open, result: Result) -> None:
        """Apply a round as soon as its result is known, so that its ``close`` need not be waited for."""
        try:
            await self.apply(opened, result)
        except UserError as error:
            log.warning("round %d is not applied here yet: %s", result.round, error)

    async def caught_up(self) -> None:
        """Wait for the rounds that are being applied, or wait for it."""
        async with self._applying:  # it is given in the order in which it was asked for
            pass

    async def _fetch_state(self, opened: Open) -> None:
        if opened.state_root == self._start_root:
            return
        sources = [*self._sources(), *(member.peer for member in opened.members)]
        await fetch_state(self._peer, self._store, opened.state_root, sources)

    async def fetch_averages(self, opened: Open, entries: Iterable[ChunkResult]) -> None:
        """Bring averages of a round here, from their reducers and from the holder of the duty."""
        makers = {entry.result: opened.members[entry.reducer].peer for entry in entries}
        members = [member.peer for member in opened.members]
        others = [*self._sources(), *members]
        await fetch_payloads(self._peer, self._store, makers, self._keeper(), others, silent_s=SILENT_S)

    async def _unreadable(self, entries: Sequence[ChunkResult]) -> dict[int, str]:
        """What of these averages, in the round under way, nobody could apply."""
        opened = self._reader.opened
        if opened is None:
            return {}
        await self.fetch_averages(opened, entries)
        return await asyncio.to_thread(unreadable, self._job, self._store, entries, refresh=opened.refresh)

    # ------------------------------------------------------------ what a chain alone does not show

    async def _check_more(self, record: Record) -> None:
        match record.body:
            case Begin() as begin:
                _require(begin.state_root == self._start_root, "it begins with another state than the job's model")
            case Assign(attempt=0) as assign:
                await self._confirm(self._reader.opened, self._reader.seal, assign.rejected)
                if self._reader.opened is not None and self._reader.seal is not None:
                    await self.repeats.admitted(self._reader.opened, self._reader.seal, assign)
            case Assign() as assign:
                await self._confirm_unreadable(assign)
            case Result(chunks=entries):
                found = await self._unreadable(entries)
                _require(not found, f"what it calls averages cannot be applied: {found}")
            case Close() as close:
                opened, result = self._reader.opened, self._reader.result
                if opened is not None and result is not None:
                    root = await self.apply(opened, result)
                    _require(root == close.state_root, f"the state after it is {root[:16]}… here")
            case Verdict() as verdict:
                round_ = self._reader.lineage.rounds[verdict.round]
                out = {item.slot for item in round_.assign.rejected}
                rejected = tuple(
                    Reason(item.slot, item.reason, item.proof)
                    for item in verdict.judged
                    if item.outcome == "rejected" and item.slot not in out
                )
                await self._confirm(round_.open, round_.seal, rejected, _segment_seed(verdict))
                await self._confirm_reductions(round_, verdict)
                await self._confirm_tasks(round_.open, round_.seal, verdict)
                await self.repeats.judged(round_.open, round_.seal, verdict, self._is_proven)
            case Correct() as correct:
                await self._repeat_correction(correct)
            case Ruling() as ruling:
                await self._repeat_hearing(ruling)
            case _:
                pass

    async def _check_what_was_new(self, record: Record) -> None:
        match record.body:
            case Open() as opened:
                await self._blocks.opened(opened)
            case Seal() as seal:
                await self._blocks.sealed(seal)
            case Finish(ended=True):
                _require(await asyncio.to_thread(self._has_ended), "the job is not over on the chain")
            case Verdict() as verdict:
                round_ = self._reader.lineage.rounds[verdict.round]
                await self._blocks.drawn(round_.seal, verdict)
                fault = passed_over(self._claims_of(verdict.round), verdict, round_.open, round_.result)
                _require(not fault, fault)
                if not verdict.secret:
                    _require(
                        not await self._ask_sealer(round_.seal),
                        "its draw does without the secret that its sealer gives",
                    )
            case _:
                pass

    def _is_proven(self, node: str) -> bool:
        return self._reader.standings.get(node, Standing()).proven

    async def _replay(self, effect: Replay) -> Replayed:
        """Replay work as if on duty, from the state of its round."""
        await self._have_state(effect.open)
        return await self._replayer.replay(effect)

    async def _have_state(self, opened: Open) -> None:
        """Who was off when the round was applied has not got the state that it starts from."""
        if not self._has_state(opened.state_root):
            await self._fetch_state(opened)

    async def _repeat_correction(self, correct: Correct) -> None:
        """Repeat each excised work that no verdict has rejected, then the averages and the outer steps without it."""
        history = self._reader.history
        for item in correct.excised:
            if not history.judged[item.round, item.slot].rejected:
                past = history.rounds[item.round]
                seed = _segment_seed(self._reader.lineage.verdicts[item.round])
                await self._require_fraud(Replay(past.open, past.seal, item.slot, again=True, seed=seed))
        out = slots_by_round(correct.excised)
        for corrected in correct.rounds:
            own = await self._averager.without(history.rounds[corrected.round], out[corrected.round])
            _require(own == corrected, f"round {corrected.round} averages to other chunks here")
        changed = {item.round: item for item in correct.rounds}
        run = run_to(history, correct.round, self._has_state, changed)
        if run is None:
            raise RefusedError("no state before the excised rounds is kept here")
        digests = [digest for step in run.steps for digest in step.results]
        sources = self._sources()
        await fetch_payloads(self._peer, self._store, dict.fromkeys(digests, sources[0]), "", sources[1:])
        order = run_order(run, correct.round + 1, history.places[correct.round].cursor, correct.returned)
        async with self._applying:
            root = await (await self._trainers.get()).apply(order)
            _require(root == correct.state_root, f"the corrected state is {root[:16]}… here")
            await asyncio.to_thread(self._home.hold, correct.round + 1, root)

    def _has_state(self, root: str) -> bool:
        try:
            return not self._store.missing(self._store.manifest(root, "state"))
        except RefusedError:
            return False

    async def _confirm(
        self, opened: Open | None, seal: Seal | None, rejected: tuple[Reason, ...], seed: str = ""
    ) -> None:
        """Repeat each rejected work. Who was banned before is rejected for that, whatever this work is worth."""
        if opened is None or seal is None:
            return
        nodes = {item.slot: item.node for item in seal.commitments}
        for reason in rejected:
            if not self._reader.is_excluded(nodes[reason.slot]):
                await self._require_fraud(Replay(opened, seal, reason.slot, again=True, seed=seed), reason)

    async def _require_fraud(self, effect: Replay, reason: Reason | None = None) -> None:
        """The work differs here too; what was replayed once is remembered, for the record may be proposed again."""
        key = (effect.open.round, effect.slot)
        if key not in self._replayed and reason is not None:
            self._replayed[key] = await self._second_opinion(effect, reason)
        elif key not in self._replayed:
            self._replayed[key] = (await self._replay(effect)).outcome
        found = self._replayed[key]
        _require(found == "rejected", f"slot {effect.slot} of round {effect.open.round} is rejected, and {found} here")

    async def _confirm_unreadable(self, assign: Assign) -> None:
        """What each newly blamed reducer has signed cannot be read here either."""
        known = self._reader.assign.unreadable if self._reader.assign is not None else ()
        for item in assign.unreadable[len(known) :]:
            found = await self._unreadable(item.entries)
            _require(bool(found), f"slot {item.reducer} is blamed for averages that can be read here")

    async def _confirm_reductions(self, round_: Round, verdict: Verdict) -> None:
        """Average each rejected chunk again, but for those that a claim proves to be wrong. What is withheld from one
        may come to another, which then sees the wrong sum itself.
        """
        proven = blamed(verdict.claims, round_.open, round_.result)
        out = {item.chunk: item.outcome for item in verdict.reductions if item.outcome != "void"}
        chunks = tuple(chunk for chunk in out if chunk not in proven)
        if not chunks:
            return
        again = AverageAgain(round_.open, round_.seal, round_.assign, round_.result, chunks)
        found = {item.chunk: item.outcome for item in (await self._chunk_auditor.average_again(again)).found}
        for chunk in chunks:
            here = found.get(chunk, "right")
            _require(here in ("rejected", out[chunk]), f"the average of chunk {chunk} is {out[chunk]}, and {here} here")

    async def _repeat_hearing(self, ruling: Ruling) -> None:
        """Replay the work of an appeal here, whole, whatever the verdict on it was."""
        round_ = self._reader.lineage.rounds[ruling.round]
        key = (ruling.round, ruling.slot)
        if key not in self._heard:
            seed = _segment_seed(self._reader.lineage.verdicts[ruling.round])
            found = await self._replay(Replay(round_.open, round_.seal, ruling.slot, again=True, seed=seed))
            self._heard[key] = found.outcome == "accepted"
        _require(self._heard[key] == ruling.granted, f"an appeal is decided as it is not here (round {ruling.round})")

    async def _second_opinion(self, effect: Replay, reason: Reason) -> Outcome:
        """Replay the segment that the fraud proof names, or the round where nobody gives the proof."""
        _require(bool(reason.proof), f"slot {reason.slot} is rejected without a fraud proof")
        await self._have_state(effect.open)
        for source in self._sources():
            try:
                await fetch_payloads(self._peer, self._store, {reason.proof: source})
            except UserError:
                continue
            proof = await asyncio.to_thread(self._store.get, reason.proof)
            return (await self._replayer.confirm(effect, proof, source)).outcome
        return (await self._replayer.replay(effect)).outcome

    async def _confirm_tasks(self, opened: Open, seal: Seal, verdict: Verdict) -> None:
        """Repeat each task whose auditor is rejected: what it has signed has to be wrong here too."""
        seed = task_seed(verdict.secret, verdict.block_hash)
        places = {member.node: member.slot for member in opened.members}
        for task in (task for task in verdict.tasks if task.outcome == "rejected"):
            key = task_key(seed, task.slot, task.auditor)
            plan = Plan(task.slot, places[task.auditor], task.steps, key, known=True)
            found = await self._replayer.recompute(Recompute(opened, seal, plan, again=True))
            wrong = found.redone is not None and found.redone != task.redone
            _require(wrong, f"auditor {task.auditor} is rejected, and its answer is not wrong here")


def _segment_seed(verdict: Verdict) -> str:
    return segment_seed(verdict.secret, verdict.block_hash)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise RefusedError(what)
