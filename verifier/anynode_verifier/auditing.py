"""An audit from public records alone: follow the chain, replay a round, rebuild every reward root.

Where the network's RPC answers, blocks and roots are compared with the chain too; otherwise it says that they are not.

Nothing of the verifier is trusted but what its signatures commit it to: the parameters of every round are computed
again from the job's own files, the work of one round is trained again and averaged again, and what it earned is
computed again and looked up in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anynode.jobs.job import Job
from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.corrections import History
from anynode.rounds.left_out import EVIDENCE_BYTES_MAX, LeftOut
from anynode.rounds.public import PublicFolder
from anynode.rounds.records import Record
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.networks import Network, check_chain, connect
from anynode_contracts.signing import SigningDomain
from anynode_ledger.public import PublicBatch, PublicLedger
from anynode_ledger.rebuild import rebuild
from anynode_verifier.auditors import Auditors
from anynode_verifier.block_checks import BlocksSeen, look_up
from anynode_verifier.blocks import Blocks
from anynode_verifier.chain_roots import compare_roots, roots_on_chain
from anynode_verifier.credit_checks import check_credits
from anynode_verifier.credits import judged_rounds, ruled_rounds
from anynode_verifier.lineage import follow
from anynode_verifier.rates import check_rates
from anynode_verifier.rework import Rework, Say, to_repeat, withheld

LEDGER_BYTES_MAX = 1 << 30
Choose = Callable[[list[int]], int]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was checked. Of ``replayed_round`` the ``replayed_slots`` were trained again, each in its own hardware class
    as far as this machine makes it; ``roots`` are the rebuilt reward roots, of which ``roots_confirmed`` are the
    chain's (None: not compared), ``blocks_doubted`` the rounds whose blocks are not the chain's, with why.
    """

    job_id: str
    records: int
    rounds: int
    state_root: str
    replayed_round: int
    replayed_slots: tuple[int, ...]
    rejections_confirmed: int
    audited: int
    secrets_withheld: tuple[int, ...]
    blocks_doubted: tuple[tuple[int, str], ...]
    roots: tuple[str, ...]
    roots_confirmed: int | None


async def audit(folder: PublicFolder, network: Network, choose: Choose, say: Say) -> AuditReport:
    """Audit a folder; ``choose`` picks the round to replay. Raises ``RefusedError`` naming the first difference."""
    job, signed = folder.job(), folder.records()
    domain = SigningDomain(network.chain_id, network.registry)
    await asyncio.to_thread(verify, signed, job.job_id, domain, Verifiers.of(network))
    records = [item.record for item in signed]
    lineage = await asyncio.to_thread(follow, records, job, domain)
    history = History.of(records)
    say(f"{len(signed)} records: signatures, deals, books and verdicts fit")
    rates = check_rates(records, job, network.held_back_limit_wei)
    drawn = sum(item.audited for verdict in lineage.verdicts.values() for item in verdict.judged)
    say(f"{drawn} of {len(rates)} commitments were audited: those that the draws name, at rates that stakes ask for")
    blocks = await _look_up_blocks(records, network, say)
    candidates = [number for number, round_ in lineage.rounds.items() if round_.result.chunks]
    if not candidates:
        raise RefusedError("no round has a result, so there is nothing to replay; audit the job when it has trained")
    chosen = choose(candidates)
    if chosen not in candidates:
        raise UserError(f"round {chosen} has no result to replay; choose one of {candidates[0]} to {candidates[-1]}")
    async with await Trainer.start(folder.store.folder, folder.files) as trainer:
        classes = Auditors(trainer.hardware_class, Limits(), lambda limits: _keeper(folder, limits))
        rework = Rework(trainer, classes, job, lineage, folder.store, say)
        try:
            await rework.lineage_again(records)
            await rework.excised_again(history)
            expected = to_repeat(lineage.rounds[chosen], lineage.verdicts.get(chosen))
            rulings = [item.ruling for item in ruled_rounds(records)]
            expected |= {item.slot: "accepted" for item in rulings if item.granted and item.round == chosen}
            replayed, confirmed = await rework.round_again(history.rounds[chosen], expected)
        finally:
            await classes.close()
    batches = await asyncio.to_thread(_audit_ledger, folder, job, network, say)
    on_chain = await asyncio.to_thread(_look_up_roots, batches, network, say)
    return AuditReport(
        job_id=job.job_id,
        records=len(signed),
        rounds=len(lineage.rounds),
        state_root=history.places[history.number].state_root,
        replayed_round=chosen,
        replayed_slots=replayed,
        rejections_confirmed=confirmed,
        audited=drawn,
        blocks_doubted=tuple(blocks.doubts.items()),
        secrets_withheld=withheld(lineage),
        roots=tuple(batch.root for batch in batches),
        roots_confirmed=on_chain,
    )


def check_receipt(folder: PublicFolder, network: Network, path: Path) -> tuple[str, int]:
    """The verifier that a kept receipt is evidence against, and the round. Raises ``RefusedError`` where it is against
    nobody, ``UserError`` where the file is no such receipt.
    """
    job, signed = folder.job(), folder.records()
    domain = SigningDomain(network.chain_id, network.registry)
    verify(signed, job.job_id, domain, Verifiers.of(network))
    with path.open("rb") as file:
        evidence = LeftOut.parse(file.read(EVIDENCE_BYTES_MAX + 1))
    records = [item.record for item in signed]
    return evidence.proof(job.job_id, records, network.verifiers, domain).signer, evidence.receipt.round


async def _look_up_blocks(records: list[Record], network: Network, say: Say) -> BlocksSeen:
    """Beacons and draws against the chain, where it is at hand."""
    w3 = connect(network.rpc_url)
    try:
        await asyncio.to_thread(check_chain, w3, network)
        seen = await look_up(records, Blocks.of(w3, network))
    except UserError as error:
        say(f"Beacons and audit draws are not compared with the chain: {error}")
        return BlocksSeen(0, 0, {})
    stand_ins = f"; {seen.stand_ins} rounds opened while it was silent" if seen.stand_ins else ""
    say(f"{seen.confirmed} beacons and audit draws name blocks of the chain{stand_ins}")
    return seen


def _keeper(folder: PublicFolder, limits: Limits) -> TrainerKeeper:
    return TrainerKeeper(folder.store.folder, folder.files, TrainerSettings(limits=limits))


def _audit_ledger(folder: PublicFolder, job: Job, network: Network, say: Say) -> list[PublicBatch]:
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
    batches = rebuild(raw, network.daily_cap_gwei)
    for batch in batches:
        if (batch.chain_id, batch.distributor) != (network.chain_id, network.distributor):
            raise RefusedError(f"batch {batch.number} is for another network's contract")
    judged = judged_rounds(item.record for item in folder.records())
    ruled = ruled_rounds(item.record for item in folder.records())
    ledger = PublicLedger.model_validate(raw)
    waiting = check_credits(judged, job, ledger, network.verifiers, ruled)
    later = f"; {waiting} more rounds are judged and not booked yet" if waiting else ""
    say(f"{len(judged) - waiting} rounds' credits and {len(batches)} reward roots rebuilt: all fit{later}")
    return ledger.batches


def _look_up_roots(batches: list[PublicBatch], network: Network, say: Say) -> int | None:
    """The rebuilt roots against those of the chain, where it is at hand."""
    w3 = connect(network.rpc_url)
    try:
        check_chain(w3, network)
        events = roots_on_chain(w3, network)
    except UserError as error:
        say(f"Reward roots are not compared with the chain: {error}")
        return None
    seen = compare_roots(batches, events)
    say(
        f"{seen.confirmed} reward roots are those of the chain; {seen.not_posted} more are not on it, and it has"
        f" {seen.later} newer ones"
    )
    return seen.confirmed
