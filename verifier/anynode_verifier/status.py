"""What `anynode status` and the API show of a verifier: jobs, members, money, and what is waited for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from anynode.rounds.appeals import Rejection, Rejections
from anynode.rounds.coordination import Phase
from anynode.rounds.course import Close, Result, Seal
from anynode.rounds.judgements import Correct, Outcome, Verdict
from anynode.rounds.lean import Lean
from anynode.rounds.records import Record
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode.rounds.words import what_was_signed
from anynode.swarm.conduct import Conduct
from anynode_ledger.book import Book
from anynode_verifier.credits import judged_rounds
from anynode_verifier.job_run import JobRun
from anynode_verifier.withholding import withheld_in


def job_status(run: JobRun, now: float) -> dict[str, Any]:
    """One job for people and programs. ``losses`` maps a round to the validation loss of its start state."""
    state, bodies = run.driver.state, run.log.bodies
    places = {item.node: item for item in state.open.members} if state.open else {}
    verdicts, tasks = last_verdicts(bodies), audit_tasks(bodies)
    held_wei = run.stakes.held_back_wei()
    going_on = places if state.phase is not Phase.FINISHED else {}
    rates = {name: run.audit_rate(place, held_wei) for name, place in going_on.items()}
    members = [
        {
            "node": name,
            "peer": node.peer,
            "hardware": node.hardware,
            "alive": node.joined and now - node.seen_at < run.rules.alive_s,
            "proven": node.proven,
            "reduces": node.reduces,
            "state_round": node.state_round,
            "refused": node.banned,
            "accepted_audits": node.standing.audits,
            "voids": node.standing.voids,
            "takes_tasks": node.audits,
            "tasks": tasks.get(name, {}),
            "lean": lean_status(node.standing.lean),
            "quota_steps": places[name].quota_steps if name in places else 0,
            "steps_per_s": node.pace.steps_per_s,
            "chunks_per_s": node.chunks_per_s,
            "committed": name in places and places[name].slot in state.commitments,
            "audit_rate": rates[name].ppm / EVERY_TIME_PPM if name in rates else None,
            "audit_rate_why": rates[name].why if name in rates else "",
            "last_verdict": verdicts.get(name),
        }
        for name, node in sorted(state.nodes.items())
    ]
    opened_at = run.progress.opened_at.get(state.round)
    return {
        "job_id": run.job.job_id,
        "name": run.job.name,
        "phase": state.phase.value,
        "round": state.round,
        "round_age_s": now - opened_at if opened_at is not None else None,
        "round_s": run.progress.round_s(),
        "rounds": run.rules.rounds,
        "height": state.height,
        "state_root": state.state_root,
        "losses": {str(round_): loss for round_, loss in sorted(run.progress.losses.items())},
        "samples_per_s": samples_per_s(run, bodies),
        "members": members,
        "state_forks": sum(len(record.body.forks) for record in bodies if isinstance(record.body, Close)),
        "rejected": not_accepted(bodies, "rejected", run.appeals.desk.rejections, run.appeals.desk.waiting),
        "void": not_accepted(bodies, "void"),
        "excised": excised(bodies),
        "reductions": false_reductions(bodies),
        "audits": audits(bodies),
        "quorum": quorum_status(run),
        "price_wei_per_sample": str(run.job.pay.price_wei_per_sample),
    }


def lean_status(lean: Lean) -> dict[str, Any]:
    """On which side of the verifier's own the work of another class was, as parts of the tolerance."""
    along, again = lean.means
    return {"segments": lean.segments, "along": along, "again": again, "suspected": lean.crossed}


def quorum_status(run: JobRun) -> dict[str, Any]:
    """Who signs the records, who is on duty, who is proven to have broken its word, and whose secrets were withheld."""
    state = run.agreement.state
    withheld = withheld_in(run.job.job_id, run.log.bodies)
    return {
        "verifiers": list(state.rules.verifiers.addresses),
        "signatures_needed": state.needed,
        "view": state.view,
        "on_duty": run.agreement.holder,
        "excluded": [asdict(proof) for proof in state.proofs.values()],
        "broken_words": {proof.signer: what_was_signed(proof) for proof in state.proofs.values()},
        "withheld": [{"round": item.round, "verifier": item.sealer} for item in withheld],
    }


def samples_per_s(run: JobRun, bodies: list[Record]) -> float:
    """Averaged samples per second of training, over the rounds that this process has seen from open to close."""
    times = run.progress
    counted = {round_ for round_ in times.closed_at if round_ in times.opened_at}
    seconds = sum(times.closed_at[round_] - times.opened_at[round_] for round_ in counted)
    included = {
        record.body.round: {slot for entry in record.body.chunks for slot in entry.senders}
        for record in bodies
        if isinstance(record.body, Result)
    }
    samples = sum(
        item.samples
        for record in bodies
        if isinstance(record.body, Seal) and record.body.round in counted
        for item in record.body.commitments
        if item.slot in included.get(record.body.round, set())
    )
    return samples / seconds if seconds else 0.0


def not_accepted(
    bodies: list[Record], outcome: Outcome, rejections: Rejections | None = None, waiting: Collection[object] = ()
) -> list[dict[str, Any]]:
    """Every rejected or void piece of work, with its reason, and what an appeal has come to."""
    known: Mapping[tuple[int, str], Rejection] = rejections or {}
    return [
        {
            "node": item.node,
            "round": round_.open.round,
            "slot": item.slot,
            "reason": item.reason,
            "proof": item.proof,
            "appeal": _appeal(known.get((round_.open.round, item.node)), (round_.open.round, item.node) in waiting),
        }
        for round_ in judged_rounds(bodies)
        for item in round_.verdict.judged
        if item.outcome == outcome
    ]


def excised(bodies: list[Record]) -> list[dict[str, Any]]:
    """Every piece of work that was taken out of the model after its round, with the number that did it."""
    return [
        {"node": item.node, "round": item.round, "slot": item.slot, "reason": item.reason, "by": record.body.round}
        for record in bodies
        if isinstance(record.body, Correct)
        for item in record.body.excised
    ]


def false_reductions(bodies: list[Record]) -> list[dict[str, Any]]:
    """Every averaged chunk for which its reducer is not paid, and why."""
    return [
        {
            "node": item.node,
            "round": body.round,
            "chunk": item.chunk,
            "outcome": item.outcome,
            "reason": item.reason,
        }
        for body in (record.body for record in bodies)
        if isinstance(body, Verdict)
        for item in body.reductions
    ]


def _appeal(rejection: Rejection | None, waits: bool) -> dict[str, Any] | None:
    """What an appeal has come to; None before one, and for void work."""
    if waits:
        return {"outcome": "waits", "reason": "", "mistaken": ""}
    if rejection is None or rejection.ruling is None:
        return None
    ruling = rejection.ruling
    outcome = "granted" if ruling.granted else "upheld"
    return {"outcome": outcome, "reason": ruling.reason, "mistaken": ruling.mistaken}


def last_verdicts(bodies: list[Record]) -> dict[str, dict[str, Any]]:
    """The newest verdict on each node's work, with its reason."""
    found: dict[str, dict[str, Any]] = {}
    for round_ in judged_rounds(bodies):
        for item in round_.verdict.judged:
            found[item.node] = {
                "round": round_.open.round,
                "outcome": item.outcome,
                "evidence": item.evidence,
                "reason": item.reason,
            }
    return found


def audit_tasks(bodies: list[Record]) -> dict[str, dict[str, int]]:
    """By auditor, how many of its tasks were paid (accepted), found wrong (rejected), and neither (void)."""
    found: dict[str, dict[str, int]] = {}
    for record in bodies:
        for task in record.body.tasks if isinstance(record.body, Verdict) else ():
            mine = found.setdefault(task.auditor, {"accepted": 0, "rejected": 0, "void": 0})
            mine[task.outcome] += 1
    return found


def accepted_samples(bodies: list[Record]) -> int:
    """Samples of the commitments whose verdict is to accept them."""
    total = 0
    for round_ in judged_rounds(bodies):
        accepted = {item.slot for item in round_.verdict.judged if item.accepted}
        total += sum(item.samples for item in round_.seal.commitments if item.slot in accepted)
    return total


def dropped(conduct: Conduct) -> list[dict[str, Any]]:
    """The peers from which nothing is taken for now, and why."""
    return [
        {"peer": drop.peer_id, "offence": str(drop.offence), "reason": drop.sentence, "left_s": round(left_s)}
        for drop, left_s in conduct.dropped()
    ]


def audits(bodies: list[Record]) -> dict[str, int]:
    """How many commitments were judged, how many of them replayed, how many rejected, how many void."""
    judged = [item for round_ in judged_rounds(bodies) for item in round_.verdict.judged]
    return {
        "judged": len(judged),
        "replayed": sum(item.audited for item in judged),
        "rejected": sum(item.rejected for item in judged),
        "void": sum(item.outcome == "void" for item in judged),
    }


def money_status(book: Book, job_ids: list[str]) -> dict[str, Any]:
    """The ledger in wei, as decimal strings."""
    return {
        "nodes": [
            {
                "index": node.node_index,
                "node": node.node,
                "payout": node.payout,
                "earned_wei": str(node.earned_wei),
                "held_back_wei": str(node.held_back_wei),
                "accrued_wei": str(node.accrued_wei),
                "waiting_wei": str(node.waiting_wei),
                "payable_wei": str(node.payable_wei),
                "dust_wei": str(node.dust_wei),
                "paid_wei": str(node.paid_wei),
                "slashed_wei": str(node.slashed_wei),
            }
            for node in book.nodes()
        ],
        "jobs": [
            {
                "job_id": job.job_id,
                "funded_wei": str(job.funded_wei),
                "unspent_wei": str(job.unspent_wei),
                "credited_wei": str(job.credited_wei),
                "fees_wei": str(job.fees_wei),
                "in_escrow_wei": str(job.in_escrow_wei),
                "closed": job.closed,
            }
            for job in (book.job(job_id) for job_id in job_ids)
        ],
    }
