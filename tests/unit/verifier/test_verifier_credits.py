"""What a judged round earns: never more than its pot, nothing for what was void, rejected or not delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_world import PEER_ID, PRICE_WEI, SignedWorld, make_job

from anynode.exact.layout import chunk_specs
from anynode.rounds.course import Assign, ChunkResult, Committed, Member, Open, Reason, Reducer, Result, Seal
from anynode.rounds.judgements import Claimed, Judged, ReductionJudged, Task, Verdict
from anynode_contracts.errors import InvariantError
from anynode_ledger.pay import Credit
from anynode_verifier.credits import JudgedRound, judged_rounds, round_credits

JOB = make_job()
VERIFIER = 99
SPECS = chunk_specs(JOB.model.parameters, False)


def node(slot: int) -> str:
    return f"0x{slot + 1:040d}"


INDICES = {node(slot): slot + 1 for slot in range(8)}


def judged_round(
    samples: list[int],
    *,
    rejected: tuple[int, ...] = (),
    failed: tuple[int, ...] = (),
    void: tuple[int, ...] = (),
    weightless: tuple[int, ...] = (),
    senders: tuple[tuple[int, ...], ...] | None = None,
    reducers: tuple[int, ...] = (0, 0),
    reductions: tuple[ReductionJudged, ...] = (),
    tasks: tuple[Task, ...] = (),
    claims: tuple[Claimed, ...] = (),
) -> JudgedRound:
    """A round of ``len(samples)`` members. ``rejected`` before the exchange, ``failed`` in the audit after it."""
    slots = range(len(samples))
    accepted = tuple(slot for slot in slots if slot not in rejected + weightless)
    delivered = senders if senders is not None else (accepted,) * len(SPECS)
    chunks = tuple(
        ChunkResult(chunk, 0, reducer, who, "c" * 64)
        for chunk, (reducer, who) in enumerate(zip(reducers, delivered, strict=True))
    )
    return JudgedRound(
        open=Open(
            "open",
            3,
            "1" * 64,
            "0x",
            False,
            tuple(
                Member(slot, node(slot), PEER_ID, "class", 5, slot not in weightless, True, False, "") for slot in slots
            ),
            tuple(((0, 0),) for _ in slots),
            0,
            (),
            5,
            20,
            10,
        ),
        seal=Seal(
            "seal",
            3,
            tuple(
                Committed(slot, node(slot), 4, samples[slot], 2, "2" * 64, "3" * 64, "class", "1", 0, "")
                for slot in slots
            ),
            (),
            "4" * 64,
            7,
            (1_000_000,) * len(samples),
            node(0),
            (),
        ),
        assign=Assign(
            "assign",
            3,
            0,
            accepted,
            tuple(Reason(slot, "differs") for slot in rejected),
            weightless,
            (),
            tuple(Reducer(chunk, reducer, reducer) for chunk, reducer in enumerate(reducers)),
            (),
        ),
        result=Result("result", 3, chunks, (), 4, 0, ()),
        verdict=Verdict(
            "verdict",
            3,
            "5" * 64,
            "0x",
            tuple(
                Judged(
                    slot,
                    node(slot),
                    "rejected" if slot in rejected + failed else "void" if slot in void else "accepted",
                    "exact",
                    "differs" if slot in failed else "",
                )
                for slot in slots
            ),
            reductions,
            tasks,
            claims,
        ),
    )


def pay(round_: JudgedRound) -> list[Credit]:
    return round_credits(JOB, round_, INDICES, VERIFIER)


def earned(round_: JudgedRound) -> dict[tuple[int, str], int]:
    return {(credit.node_index, credit.kind): credit.amount_wei for credit in pay(round_)}


def test_a_round_by_hand() -> None:
    """Two members with 10 and 30 samples; the first reduces both chunks."""
    assert earned(judged_round([10, 30])) == {
        (1, "samples"): 10 * PRICE_WEI * 90 // 100,
        (2, "samples"): 30 * PRICE_WEI * 90 // 100,
        (1, "reducing"): 40 * PRICE_WEI * 5 // 100,
        (VERIFIER, "audit"): 40 * PRICE_WEI * 5 // 100,
    }


def test_reducing_is_paid_by_the_values_that_were_taken_in() -> None:
    amounts = earned(judged_round([10, 10], reducers=(0, 1)))
    pot = 20 * PRICE_WEI * 5 // 100
    total = sum(spec.count for spec in SPECS)
    assert amounts[1, "reducing"] == pot * SPECS[0].count // total
    assert amounts[2, "reducing"] == pot * SPECS[1].count // total


def test_a_void_round_earns_nothing() -> None:
    void = judged_round([10, 30])
    void = replace(void, result=replace(void.result, chunks=(), steps=0))
    assert pay(void) == []
    assert void.paid_nodes == ()


def test_rejected_work_earns_nothing_and_costs_the_owner_nothing() -> None:
    alone = earned(judged_round([10]))
    assert earned(judged_round([10, 30], rejected=(1,), senders=((0,), (0,)))) == alone
    assert earned(judged_round([10, 30], failed=(1,), senders=((0,), (0,)))) == alone
    assert judged_round([10, 30], rejected=(1,)).rejected == {node(1): ""}
    assert judged_round([10, 30], failed=(1,)).rejected == {node(1): "differs"}


def test_void_work_earns_nothing_and_is_no_fraud() -> None:
    """It was averaged, and nobody can say whether rightly: unpaid and unslashed."""
    round_ = judged_round([10, 30], void=(1,))
    assert earned(round_) == earned(judged_round([10, 30], failed=(1,)))
    assert round_.rejected == {}
    assert round_.paid_nodes == (node(0),)


def reduction(chunk: int, slot: int, outcome: Literal["rejected", "void"]) -> ReductionJudged:
    return ReductionJudged(chunk, slot, node(slot), outcome, "another average")


def test_a_reducer_of_whom_one_chunk_is_rejected_is_paid_for_none() -> None:
    """Who delivered to it is paid, and so is its own work; what it held back is slashed for the rejection."""
    fine = earned(judged_round([10, 30], reducers=(0, 0)))
    false = judged_round([10, 30], reducers=(0, 0), reductions=(reduction(1, 0, "rejected"),))
    assert earned(false) == {key: wei for key, wei in fine.items() if key[1] != "reducing"}
    assert false.rejected == {node(0): "another average"}


def test_a_void_chunk_is_not_paid_for_and_accuses_nobody() -> None:
    void = judged_round([10, 30], reducers=(0, 1), reductions=(reduction(1, 1, "void"),))
    assert (2, "reducing") not in earned(void)
    assert earned(void)[1, "reducing"] > 0
    assert void.rejected == {}


def claim(slot: int, signer: int, chunk: int, **changes: Any) -> Claimed:
    return replace(Claimed(slot, signer, 0, 0, (chunk,), ("7" * 64,), (), ""), **changes)


def test_who_is_left_out_with_a_receipt_is_paid_as_if_it_were_not() -> None:
    """With the reducer's receipt, or its witness's; not for a chunk that came late, or that is another's."""
    whole = earned(judged_round([10, 10]))[2, "samples"]
    for signer in (0, 2):
        left_out = judged_round([10, 10], senders=((0, 1), (0,)), claims=(claim(1, signer, 1),))
        assert earned(left_out)[2, "samples"] == whole
    for nothing in (claim(1, 0, 0), claim(1, 0, 1, late=(1,)), claim(1, 0, 1, attempt=1), claim(1, 0, 1, reducer=1)):
        assert earned(judged_round([10, 10], senders=((0, 1), (0,)), claims=(nothing,)))[2, "samples"] < whole


def test_a_chunk_that_was_not_delivered_costs_its_sender() -> None:
    whole, half = judged_round([10, 10]), judged_round([10, 10], senders=((0, 1), (0,)))
    none = judged_round([10, 10], senders=((0,), (0,)))
    assert earned(half)[2, "samples"] == (10 * PRICE_WEI // 2) * 90 // 100
    assert earned(half)[1, "samples"] == earned(whole)[1, "samples"], "the others lose nothing by it"
    assert (2, "samples") not in earned(none)


def test_probation_work_without_weight_earns() -> None:
    """A newcomer's accepted work is paid although nobody asked for its chunks."""
    amounts = earned(judged_round([10, 10], weightless=(1,)))
    assert amounts[2, "samples"] == amounts[1, "samples"]


def test_a_verifier_is_no_member() -> None:
    with pytest.raises(InvariantError, match="verifier"):
        round_credits(JOB, judged_round([10]), INDICES, INDICES[node(0)])


@given(st.data())
def test_credits_never_exceed_the_pot(data: st.DataObject) -> None:
    members = data.draw(st.integers(1, 6))
    samples = data.draw(st.lists(st.integers(0, 10_000), min_size=members, max_size=members))
    fates = data.draw(
        st.lists(
            st.sampled_from(["good", "rejected", "failed", "void", "weightless"]), min_size=members, max_size=members
        )
    )
    by_fate = {fate: tuple(slot for slot in range(members) if fates[slot] == fate) for fate in fates}
    weighted = [slot for slot in range(members) if fates[slot] in ("good", "failed", "void")]
    if not weighted:
        return
    some = st.lists(st.sampled_from(weighted), unique=True, min_size=1).map(lambda slots: tuple(sorted(slots)))
    round_ = judged_round(
        samples,
        rejected=by_fate.get("rejected", ()),
        failed=by_fate.get("failed", ()),
        void=by_fate.get("void", ()),
        weightless=by_fate.get("weightless", ()),
        senders=(data.draw(some), data.draw(some)),
        reducers=(data.draw(st.sampled_from(weighted)), data.draw(st.sampled_from(weighted))),
    )
    booked = pay(round_)
    paid = {slot for slot in range(members) if fates[slot] in ("good", "weightless")}
    assert sum(credit.amount_wei for credit in booked) <= sum(samples[slot] for slot in paid) * PRICE_WEI
    assert all(credit.amount_wei > 0 for credit in booked)
    assert len({credit.id for credit in booked}) == len(booked)
    assert {credit.node_index for credit in booked} <= {slot + 1 for slot in paid} | {VERIFIER}
    assert {credit.node_index for credit in booked} <= {INDICES[name] for name in round_.paid_nodes} | {VERIFIER}


def test_the_judged_rounds_of_a_whole_job(grown: SignedWorld) -> None:
    """In order of their verdicts, each with the records of its own round and the last of its assignments."""
    rounds = judged_rounds(grown.records)
    assert [round_.open.round for round_ in rounds] == list(range(5))
    for round_ in rounds:
        number = round_.open.round
        assert {number} == {b.round for b in (round_.seal, round_.assign, round_.result, round_.verdict)}
    cheats = {name for name, peer in grown.peers.items() if peer.cheats}
    assert {name for round_ in rounds for name in round_.rejected} == cheats
    assert not cheats & {name for round_ in rounds[2:] for name in round_.paid_nodes}
    assert len(judged_rounds(grown.records[:-1])) == 4, "without its verdict a round is not judged"
