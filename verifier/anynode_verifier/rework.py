"""The auditor's own work: outer steps, training and averaging done again from public records, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anynode import __version__
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.claims import blamed
from anynode.rounds.coordination import present
from anynode.rounds.corrections import History, Past, run_to
from anynode.rounds.course import Close, Committed
from anynode.rounds.judgements import Correct, Outcome, Verdict
from anynode.rounds.records import Record
from anynode.training.messages import ReduceInput, ReduceSpec, WorkResult
from anynode.training.process import Trainer
from anynode.worker.orders import apply_order, run_order, work_order
from anynode_contracts.errors import RefusedError
from anynode_verifier.auditors import Auditors
from anynode_verifier.lineage import Lineage, Round

Say = Callable[[str], None]


def withheld(lineage: Lineage) -> tuple[int, ...]:
    """Rounds whose audit secret was not revealed, as their verdicts say. One that is still to come may be late for a
    reducer that gives nothing.
    """
    return tuple(n for n, verdict in sorted(lineage.verdicts.items()) if not verdict.secret)


def to_repeat(round_: Round, verdict: Verdict | None) -> dict[int, Outcome]:
    """By slot, what training again must confirm: that the work is what was committed to, or that it is not.

    Nothing can be confirmed of void work, of work judged within a tolerance, of what was rejected for what its node had
    done before, and of a newcomer's work without its verdict.
    """
    repeat: dict[int, Outcome] = dict.fromkeys(round_.assign.accepted, "accepted")
    repeat |= {item.slot: "rejected" for item in round_.assign.rejected}
    for item in verdict.judged if verdict else ():
        repeat[item.slot] = item.outcome
    by_tolerance = {item.slot for item in verdict.judged if item.evidence == "tolerant"} if verdict else set()
    out = round_.ended | by_tolerance
    return {slot: outcome for slot, outcome in sorted(repeat.items()) if outcome != "void" and slot not in out}


@dataclass(frozen=True, slots=True)
class Rework:
    """Does the work of a checked chain again, each slot in its own hardware class. What was done in a class that this
    machine does not make, or with another version of AnyNode, stays unchecked. Every method raises ``RefusedError``
    naming the first difference.
    """

    trainer: Trainer
    classes: Auditors
    job: Job
    lineage: Lineage
    store: BlobStore
    say: Say

    async def lineage_again(self, records: Sequence[Record]) -> None:
        """From the job's own weights through every averaged update: each state has the root that the record names."""
        root = await self.trainer.initial_state()
        if root != self.lineage.start_root:
            raise RefusedError("the job's weights do not give the state that the record chain begins with")
        known, history = {root}, History()
        for record in records:
            body = record.body
            if isinstance(body, Close):
                round_ = self.lineage.rounds[body.round]
                root = await self.trainer.apply(apply_order(round_.open, round_.result))
            elif isinstance(body, Correct):
                changed = {item.round: item for item in body.rounds}
                run = present(run_to(history, body.round, known.__contains__, changed))
                cursor = history.places[body.round].cursor
                root = await self.trainer.apply(run_order(run, body.round + 1, cursor, body.returned))
            history.take(record)
            if isinstance(body, Close | Correct):
                known.add(root)
                if root != body.state_root:
                    raise RefusedError(
                        f"round {body.round}: its averaged update gives state {root[:16]}… and the record names "
                        f"{body.state_root[:16]}…"
                    )
        self.say(f"{history.number} rounds applied again: every state root fits")

    async def excised_again(self, history: History) -> None:
        """Whatever was taken out of the model was no honest work, or an appeal has cleared it since."""
        for number, past in history.rounds.items():
            for slot in sorted(past.excised):
                if (number, slot) in history.cleared:
                    self.say(f"round {number}, slot {slot}: taken out of the model, and cleared by an appeal later")
                    await self._train(number, slot)
                else:
                    await self._require_fraud(number, slot, "taken out of the model")

    async def round_again(self, past: Past, expected: Mapping[int, Outcome]) -> tuple[tuple[int, ...], int]:
        """Train the commitments of a round again, of which ``expected`` says what must come out, and average them, also
        as they count after corrections; gives the accepted slots that were trained again, and how many rejections were
        confirmed.
        """
        number, confirmed = past.open.round, 0
        payloads: dict[int, tuple[str, ...]] = {}
        for slot, outcome in expected.items():
            if outcome == "rejected":
                confirmed += await self._require_fraud(number, slot, "rejected")
            elif slot not in past.excised and (chunks := await self._train(number, slot)):
                payloads[slot] = chunks
        entries = past.result.chunks
        averages = [(entry.result, entry.senders) for entry in entries]
        if past.corrected_by >= 0:
            averages += zip(past.results, past.senders(), strict=True)
        averaged = 0
        for place, (result, senders) in enumerate(averages):
            # Nobody can train again what a fraud has put into a chunk.
            if payloads.keys() >= set(senders):
                again = await self._average(number, place % len(entries), {slot: payloads[slot] for slot in senders})
                self._require_average(number, place, again == result)
                averaged += 1
        self.say(f"round {number}: {averaged} of {len(averages)} chunks averaged again, bit for bit the same")
        return tuple(sorted(payloads)), confirmed

    async def _train(self, number: int, slot: int) -> tuple[str, ...]:
        """The chunks of an accepted update, trained again; none in a class that is not made here."""
        work, item = await self._work(number, slot)
        if work is None:
            return ()
        if (work.update_root, work.trace_root) != (item.update_root, item.trace_root):
            raise RefusedError(f"round {number}, slot {slot}: training again gives another update than was accepted")
        self.say(f"round {number}, slot {slot}: {work.steps} steps trained again, bit for bit the same")
        return tuple(chunk.hash for chunk in self.store.manifest(work.update_root, "update").chunks)

    async def _require_fraud(self, number: int, slot: int, what: str) -> bool:
        """Training a slot again must not give the bits that were committed to; false where it is not made here."""
        work, item = await self._work(number, slot)
        if work is None:
            return False
        if (work.update_root, work.trace_root) == (item.update_root, item.trace_root):
            raise RefusedError(f"round {number}, slot {slot}: honest work was {what}")
        self.say(f"round {number}, slot {slot}: {what} rightly, its update is not what training gives")
        return True

    async def _work(self, number: int, slot: int) -> tuple[WorkResult | None, Committed]:
        round_ = self.lineage.rounds[number]
        item = next(item for item in round_.seal.commitments if item.slot == slot)
        if item.code_version != __version__:
            self.say(
                f"round {number}, slot {slot}: not trained again, for it was done with AnyNode {item.code_version} and "
                f"this is {__version__}"
            )
            return None, item
        order = work_order(self.job, round_.open, slot, item.steps, item.micro_batch)
        other = item.hardware != self.trainer.hardware_class
        trainer = await self.classes.get(item.hardware) if other else self.trainer
        if trainer is None:
            self.say(
                f"round {number}, slot {slot}: not trained again, for this machine does not make class {item.hardware}"
            )
            return None, item
        return await trainer.work(order), item

    async def _average(self, number: int, chunk: int, payloads: Mapping[int, tuple[str, ...]]) -> str:
        round_ = self.lineage.rounds[number]
        sealed = {item.slot: item for item in round_.seal.commitments}
        contributions = tuple(
            ReduceInput(slot, chunks[chunk], sealed[slot].samples, sealed[slot].steps)
            for slot, chunks in payloads.items()
        )
        spec = ReduceSpec(self.job.job_id, number, chunk, round_.open.refresh, contributions)
        (outcome,) = await self.trainer.reduce([spec])
        return outcome if isinstance(outcome, str) else ""

    def _require_average(self, number: int, place: int, same: bool) -> None:
        """The chunk at ``place`` (beyond the recorded ones: as corrected) is what its verdict says of it. What leaves
        out a sender may well be the right average of the others.
        """
        round_, verdict = self.lineage.rounds[number], self.lineage.verdicts.get(number)
        rejected, hidden = set[int](), set[int]()
        if verdict is not None and place < len(round_.result.chunks):
            rejected = {item.chunk for item in verdict.reductions if item.outcome == "rejected"}
            hidden = {item.chunk for item in verdict.reductions if item.outcome == "withheld"}
        proven = blamed(verdict.claims, round_.open, round_.result) if verdict is not None else {}
        if same and place in rejected and place not in proven:
            raise RefusedError(f"round {number}: chunk {place} was rejected, and it is the average of its senders")
        if not same and place not in rejected | hidden:
            chunk = place % len(round_.result.chunks)
            raise RefusedError(f"round {number}: chunk {chunk} is not the average of its senders' updates")
