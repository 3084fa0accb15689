"""A reducer that leaves out a sender to which it has given a receipt."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from false_reducing import FalselyReduced
from purse import VERIFIER_INDEX, Purse

from anynode.rounds.course import Result
from anynode_verifier.credits import judged_rounds, round_credits

ATTACK = Attack(
    "a reducer omits a sender with its receipt",
    "A reducer gives a receipt for a sender's chunk, and signs a right average without it.",
    "caught",
)


def test_the_receipt_proves_it_and_the_sender_is_paid(purse: Purse, expect: Expect) -> None:
    world = FalselyReduced("omits", rounds=6, seed=7)
    world.run_to_its_end()
    results = {record.body.round: record.body for record in world.records if isinstance(record.body, Result)}
    claims = [(body.round, item) for body in world.verdicts for item in body.claims]
    assert claims
    for number, item in claims:
        entries = {entry.chunk: entry for entry in results[number].chunks}
        assert any(item.slot not in entries[chunk].senders for chunk in item.chunks)
    _require_paid_in_full(world)
    paid_wei, slashed_wei = purse.of(world)
    expect(Finding("caught", f"{len(claims)} receipts; the senders are paid as if averaged", paid_wei, slashed_wei))


def _require_paid_in_full(world: FalselyReduced) -> None:
    """Every accepted sender earns what its samples are worth, whoever left it out."""
    indices = {name: index for index, name in enumerate(world.accounts, 1)}
    for round_ in judged_rounds(world.records):
        samples = {item.node: item.samples for item in round_.seal.commitments}
        paid = {
            credit.node_index: credit.amount_wei
            for credit in round_credits(world.job, round_, indices, VERIFIER_INDEX)
            if credit.kind == "samples"
        }
        for item in (item for item in round_.verdict.judged if item.accepted):
            whole = samples[item.node] * world.job.pay.price_wei_per_sample
            assert paid[indices[item.node]] == whole * 90 // 100, (round_.open.round, item.node)
