"""An audit from public records alone: follow the chain, replay a round, rebuild every reward root.

Nothing of the verifier is trusted but what its signatures commit it to: the parameters of every round are computed
again from the job's own files, the work of one round is trained again and averaged again, and what it earned is
computed again and looked up in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.chain import verify
from anynode.rounds.public import PublicFolder
from anynode.training.messages import ReduceInput, ReduceSpec
from anynode.training.process import Trainer
from anynode.worker.orders import apply_order, work_order
from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_ledger.batch import Batch
from anynode_ledger.public import PublicLedger
from anynode_ledger.rebuild import rebuild
from anynode_verifier.credits import judged_rounds, round_credits
from anynode_verifier.lineage import Lineage, Round, follow

LEDGER_BYTES_MAX = 1 << 30
Say = Callable[[str], None]
Choose = Callable[[list[int]], int]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was checked. ``replayed_round`` was trained and averaged again; ``roots`` are the rebuilt reward roots."""

    job_id: str
    records: int
    rounds: int
    state_root: str
    replayed_round: int
    replayed_slots: tuple[int, ...]
    rejections_confirmed: int
    roots: tuple[str, ...]


async def audit(folder: PublicFolder, network: Network, choose: Choose, say: Say) -> AuditReport:
    """Audit a folder; ``choose`` picks the round to replay. Raises ``RefusedError`` naming the first difference."""
    job, signed = folder.job(), folder.records()
    domain = SigningDomain(network.chain_id, network.registry)
    await asyncio.to_thread(verify, signed, job.job_id, domain, network.verifiers)
    lineage = await asyncio.to_thread(follow, [item.record for item in signed], job, domain)
    say(f"{len(signed)} records: signatures, deals, books and verdicts fit")
    candidates = [index for index, round_ in enumerate(lineage.rounds) if round_.result.chunks]
    if not candidates:
        raise RefusedError("no round has a result, so there is nothing to replay; audit the job when it has trained")
    chosen = choose(candidates)
    if chosen not in candidates:
        raise UserError(f"round {chosen} has no result to replay; choose one of {candidates[0]} to {candidates[-1]}")
    async with await Trainer.start(folder.store.folder, folder.files) as trainer:
        await _replay_lineage(trainer, lineage, say)
        confirmed = await _replay_round(trainer, job, lineage.rounds[chosen], folder.store, say)
    batches = await asyncio.to_thread(_audit_ledger, folder, job, network, say)
    return AuditReport(
        job_id=job.job_id,
        records=len(signed),
        rounds=len(lineage.rounds),
        state_root=lineage.rounds[-1].close.state_root,
        replayed_round=chosen,
        replayed_slots=tuple(lineage.rounds[chosen].assign.accepted),
        rejections_confirmed=confirmed,
        roots=tuple(batch.root for batch in batches),
    )


async def _replay_lineage(trainer: Trainer, lineage: Lineage, say: Say) -> None:
    """From the job's own weights through every averaged update: each state has the root that the record names."""
    root = await trainer.initial_state()
    if root != lineage.start_root:
        raise RefusedError("the job's weights do not give the state that the record chain begins with")
    for round_ in lineage.rounds:
        root = await trainer.apply(apply_order(round_.open, round_.result))
        if root != round_.close.state_root:
            raise RefusedError(
                f"round {round_.open.round}: its averaged update gives state {root[:16]}… and the record names "
                f"{round_.close.state_root[:16]}…"
            )
    say(f"{len(lineage.rounds)} rounds applied again: every state root fits")


async def _replay_round(trainer: Trainer, job: Job, round_: Round, store: BlobStore, say: Say) -> int:
    """Train every commitment of a round again and average them again; gives how many rejections were confirmed."""
    number = round_.open.round
    sealed = {item.slot: item for item in round_.seal.commitments}
    payloads: dict[int, tuple[str, ...]] = {}
    for slot in round_.assign.accepted:
        work = await trainer.work(work_order(job, round_.open, slot, sealed[slot].steps, sealed[slot].micro_batch))
        if (work.update_root, work.trace_root) != (sealed[slot].update_root, sealed[slot].trace_root):
            raise RefusedError(f"round {number}, slot {slot}: training again gives another update than was accepted")
        manifest = store.manifest(work.update_root, "update")
        payloads[slot] = tuple(chunk.hash for chunk in manifest.chunks)
        say(f"round {number}, slot {slot}: {work.steps} steps trained again, bit for bit the same")
    confirmed = 0
    for reason in round_.assign.rejected:
        if reason.slot in round_.ended:
            continue  # rejected for what its node had done before, however good this work is
        item = sealed[reason.slot]
        work = await trainer.work(work_order(job, round_.open, reason.slot, item.steps, item.micro_batch))
        if (work.update_root, work.trace_root) == (item.update_root, item.trace_root):
            raise RefusedError(f"round {number}, slot {reason.slot}: honest work was rejected ({reason.reason})")
        say(f"round {number}, slot {reason.slot}: rejected rightly, its update is not what training gives")
        confirmed += 1
    for entry in round_.result.chunks:
        contributions = tuple(
            ReduceInput(slot, payloads[slot][entry.chunk], sealed[slot].samples, sealed[slot].steps)
            for slot in entry.senders
        )
        spec = ReduceSpec(job.job_id, number, entry.chunk, round_.open.refresh, contributions)
        if await trainer.reduce([spec]) != [entry.result]:
            raise RefusedError(f"round {number}: chunk {entry.chunk} is not the average of its senders' updates")
    say(f"round {number}: {len(round_.result.chunks)} chunks averaged again, bit for bit the same")
    return confirmed


def _audit_ledger(folder: PublicFolder, job: Job, network: Network, say: Say) -> list[Batch]:
    """Rebuild every root, and see that this job's credits are what its records earn."""
    try:
        with folder.ledger_path.open("rb") as file:
            raw = parse_json(file.read(LEDGER_BYTES_MAX))
    except OSError as error:
        raise UserError(
            f"cannot read {folder.ledger_path}: {error.strerror}; fetch it again with `anynode result`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{folder.ledger_path} is not JSON; fetch it again with `anynode result`") from error
    batches = rebuild(raw)
    for batch in batches:
        if (batch.chain_id, batch.distributor) != (network.chain_id, network.distributor):
            raise RefusedError(f"batch {batch.number} is for another network's contract")
    ledger = PublicLedger.model_validate(raw)
    index_of = {node.node: node.index for node in ledger.nodes}
    judged = judged_rounds(item.record for item in folder.records())
    verifiers = [index_of[address] for address in network.verifiers if address in index_of]
    if len(verifiers) != 1:
        raise RefusedError("the ledger does not show exactly one verifier of the network")
    listed = {
        (credit.round, credit.node_index, credit.kind): int(credit.amount_wei)
        for credit in ledger.credits
        if credit.job_id == job.job_id
    }
    for round_ in judged:
        missing = [node for node in round_.paid_nodes if node not in index_of]
        if missing:
            if any(number == round_.open.round for number, _, _ in listed):
                raise RefusedError(f"round {round_.open.round} is booked, but not for {missing[0]}")
            continue  # not booked yet: a registration is on its way
        for credit in round_credits(job, round_, index_of, verifiers[0]):
            found = listed.pop((credit.round, credit.node_index, credit.kind), 0)
            if found != credit.amount_wei:
                raise RefusedError(
                    f"round {credit.round}: node {credit.node_index} earned {credit.amount_wei} wei by the records "
                    f"({credit.kind}) and {found} wei by the ledger"
                )
    if listed:
        number, index, kind = next(iter(listed))
        raise RefusedError(f"round {number}: the ledger credits node {index} ({kind}) with what no record earns")
    say(f"{len(judged)} rounds' credits and {len(batches)} reward roots rebuilt: all fit")
    return batches
