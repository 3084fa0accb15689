"""A public ledger against the records that earn it, in a network of one verifier or of several."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from signed_world import SignedWorld, key

from anynode_contracts.errors import RefusedError
from anynode_ledger.public import PublicCredit, PublicDecision, PublicLedger, PublicNode, PublicPayout
from anynode_verifier.credit_checks import check_credits
from anynode_verifier.credits import JudgedRound, judged_rounds, round_credits

VERIFIERS = tuple(key(f"verifier {number}").address for number in range(3))


def index_of(world: SignedWorld) -> dict[str, int]:
    """Members first, then the verifiers that have registered."""
    return {node: number for number, node in enumerate([*world.accounts, *VERIFIERS])}


def ledger_of(world: SignedWorld, rounds: Sequence[JudgedRound], payee: str, *, closed: bool = True) -> PublicLedger:
    """What the verifier ``payee`` books of these rounds; all three verifiers are registered nodes."""
    indices = index_of(world)
    earned = [credit for round_ in rounds for credit in round_credits(world.job, round_, indices, indices[payee])]
    return PublicLedger.model_construct(
        nodes=[
            PublicNode(index=index, node=node, payouts=[PublicPayout(payout=node, from_batch=0)])
            for node, index in indices.items()
        ],
        credits=[
            PublicCredit(
                id=f"{item.round}/{item.node_index}/{item.kind}",
                job_id=item.job_id,
                round=item.round,
                node_index=item.node_index,
                kind=item.kind,
                amount_wei=str(item.amount_wei),
                held_wei="0",
            )
            for item in earned
        ],
        transfers=[],
        decisions=[
            PublicDecision(
                id=f"close/{world.job.job_id}",
                kind="close",
                job_id=world.job.job_id,
                node_index=None,
                reason="",
                transfers_before=0,
            )
        ]
        if closed
        else [],
    )


@pytest.mark.parametrize("payee", VERIFIERS)
def test_whichever_verifier_settles_is_paid_for_the_audits(grown: SignedWorld, payee: str) -> None:
    rounds = judged_rounds(grown.records)
    check_credits(rounds, grown.job, ledger_of(grown, rounds, payee), VERIFIERS)


def test_the_last_rounds_of_a_job_that_goes_on_may_be_booked_later(grown: SignedWorld) -> None:
    rounds = judged_rounds(grown.records)
    assert len(rounds) >= 2
    payee = VERIFIERS[0]
    for booked in range(len(rounds) + 1):
        early = ledger_of(grown, rounds[:booked], payee, closed=False)
        assert check_credits(rounds, grown.job, early, VERIFIERS) == len(rounds) - booked
    with pytest.raises(RefusedError, match="0 wei by the ledger"):
        check_credits(rounds, grown.job, ledger_of(grown, rounds[1:], payee, closed=False), VERIFIERS)
    with pytest.raises(RefusedError, match="0 wei by the ledger"):
        check_credits(rounds, grown.job, ledger_of(grown, rounds[:-1], payee), VERIFIERS)


def test_audits_are_paid_once_and_to_a_verifier(grown: SignedWorld) -> None:
    rounds = judged_rounds(grown.records)
    fair = ledger_of(grown, rounds, VERIFIERS[1])
    indices = index_of(grown)
    audit = next(item for item in fair.credits if item.kind == "audit")
    other = audit.model_copy(update={"id": "again", "node_index": indices[VERIFIERS[2]]})
    twice = fair.model_copy(update={"credits": [*fair.credits, other]})
    with pytest.raises(RefusedError, match="what no record earns"):
        check_credits(rounds, grown.job, twice, VERIFIERS)
    stranger = audit.model_copy(update={"node_index": 0})
    rest = [item for item in fair.credits if item is not audit]
    with pytest.raises(RefusedError, match="0 wei by the ledger"):
        check_credits(rounds, grown.job, fair.model_copy(update={"credits": [*rest, stranger]}), VERIFIERS)


def test_a_ledger_without_a_verifier_of_the_network_is_none(grown: SignedWorld) -> None:
    rounds = judged_rounds(grown.records)
    fair = ledger_of(grown, rounds, VERIFIERS[0])
    with pytest.raises(RefusedError, match="no verifier of the network"):
        check_credits(rounds, grown.job, fair, ("0x" + "9" * 40,))
