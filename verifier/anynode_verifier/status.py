"""What `anynode status` and the API show of a verifier: jobs, members, money, and what is waited for."""

from __future__ import annotations

from typing import Any

from anynode.rounds.records import Close, Record, Result, Seal
from anynode.swarm.conduct import Conduct
from anynode_ledger.book import Book
from anynode_verifier.credits import judged_rounds
from anynode_verifier.job_run import JobRun


def job_status(run: JobRun, now: float) -> dict[str, Any]:
    """One job for people and programs. ``losses`` maps a round to the validation loss of its start state."""
    state, bodies = run.driver.state, run.log.bodies
    places = {item.node: item for item in state.open.members} if state.open else {}
    verdicts = last_verdicts(bodies)
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
            "quota_steps": places[name].quota_steps if name in places else 0,
            "steps_per_s": node.pace.steps_per_s,
            "chunks_per_s": node.chunks_per_s,
            "committed": name in places and places[name].slot in state.commitments,
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
        "rejected": rejected(bodies),
        "audits": audits(bodies),
        "price_wei_per_sample": str(run.job.pay.price_wei_per_sample),
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


def rejected(bodies: list[Record]) -> list[dict[str, Any]]:
    """Every rejected piece of work, with its reason."""
    return [
        {"node": item.node, "round": round_.open.round, "reason": item.reason}
        for round_ in judged_rounds(bodies)
        for item in round_.verdict.judged
        if not item.accepted
    ]


def last_verdicts(bodies: list[Record]) -> dict[str, dict[str, Any]]:
    """The newest verdict on each node's work, with its reason."""
    found: dict[str, dict[str, Any]] = {}
    for round_ in judged_rounds(bodies):
        for item in round_.verdict.judged:
            found[item.node] = {"round": round_.open.round, "accepted": item.accepted, "reason": item.reason}
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
    """How many commitments were judged, how many of them replayed, how many rejected."""
    judged = [item for round_ in judged_rounds(bodies) for item in round_.verdict.judged]
    return {
        "judged": len(judged),
        "replayed": sum(item.audited for item in judged),
        "rejected": sum(not item.accepted for item in judged),
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
                "in_escrow_wei": str(job.in_escrow_wei),
                "closed": job.closed,
            }
            for job in (book.job(job_id) for job_id in job_ids)
        ],
    }
