"""Signatures of another job or network used again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, make_job

from anynode.rounds.course import Close, Result, Seal
from anynode.rounds.messages import Average, ChunkDone, Join, StateReport
from anynode.rounds.statements import Signed, commitment_of, statement
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import SigningDomain, check, sign

ATTACK = Attack(
    "signatures of another job or network",
    "Somebody takes what a node has signed in one job, round or network, and shows it in another.",
    "prevented",
)
OTHER_JOB = "ef" * 32
OTHER_NETWORKS = (SigningDomain(1, DOMAIN.registry), SigningDomain(DOMAIN.chain_id, f"0x{999:040d}"))


def genuine(world: SignedWorld) -> list[tuple[Signed, str, str]]:
    """One message of each kind that a member signs in a round: message, signature, signer."""
    bodies = [record.body for record in world.records]
    seal = next(body for body in bodies if isinstance(body, Seal))
    result = next(body for body in bodies if isinstance(body, Result))
    close = next(body for body in bodies if isinstance(body, Close))
    item, reduction, report = seal.commitments[0], result.reductions[0], close.reports[0]
    reducer = next(place.node for place in seal.commitments if place.slot == reduction.reducer)
    entries = {entry.chunk: entry for entry in result.chunks}
    averages = tuple(Average(c, entries[c].senders, entries[c].result) for c in reduction.chunks)
    done = ChunkDone("chunk_done", reducer, result.round, reduction.attempt, reduction.reducer, averages)
    join = Join("join", item.node, "peer", "class", "1", True, False)
    joined = sign(world.accounts[item.node], DOMAIN, statement(world.job.job_id, join))
    told = StateReport("state_report", report.node, close.round, close.state_root)
    return [
        (commitment_of(item, seal.round), item.signature, item.node),
        (done, reduction.signature, reducer),
        (told, report.signature, report.node),
        (join, joined, item.node),
    ]


def test_each_signature_holds_in_one_place_only(expect: Expect) -> None:
    world = SignedWorld(make_job(rounds=1), 7, members=3)
    world.run(600.0)
    tried = 0
    for message, signature, signer in genuine(world):
        check(DOMAIN, statement(world.job.job_id, message), signature, signer)
        attempts = [(DOMAIN, statement(OTHER_JOB, message))]
        attempts += [(domain, statement(world.job.job_id, message)) for domain in OTHER_NETWORKS]
        if not isinstance(message, Join):
            attempts.append((DOMAIN, statement(world.job.job_id, replace(message, round=message.round + 1))))  # type: ignore[union-attr]
        for domain, said in attempts:
            tried += 1
            with pytest.raises(BreachError):
                check(domain, said, signature, signer)
    expect(Finding("prevented", f"{tried} signatures shown elsewhere, none holds"))
