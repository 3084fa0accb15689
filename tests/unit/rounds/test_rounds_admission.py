"""What a coordinator makes of replays: whose update has weight, who is excluded, and what only waits."""

from __future__ import annotations

from dataclasses import replace

from round_actors import PEER_ID
from round_centre import ALICE, BOB, CAROL, RATE_PPM, RULES, Centre, replayed

from anynode.rounds.coordinator import Phase, audit_secret
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.effects import (
    Answer,
    Replay,
)
from anynode.rounds.events import AuditRates, Beacon, Drawn, Failed, Replayed, Tick
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import Join
from anynode.rounds.standing import Standing


def test_newcomers_are_all_replayed_before_the_first_exchange(centre: Centre) -> None:
    centre.commit(ALICE)
    centre.feed(centre.commitment(BOB))
    centre.feed(AuditRates(0, (0, RATE_PPM)))
    centre.feed(Beacon(0, "0x", 7))
    assert [effect.slot for effect in centre.pick(Replay)] == [0, 1]
    assert centre.count(Assign) == 0
    centre.feed(replayed(0, 0))
    assert centre.count(Assign) == 0, "all verdicts are needed"
    centre.feed(replayed(0, 1, wrong=True))
    assert centre.pick(Replay) == [Replay(centre.newest(Open), centre.newest(Seal), 1, again=True)]
    assert centre.count(Assign) == 0, "one replay accuses nobody"
    centre.feed(replayed(0, 1, wrong=True, again=True))
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.weightless) == ((0,), ())
    assert [(item.slot, item.reason) for item in assign.rejected] == [(1, "differs")]
    assert {item.slot for item in assign.reducers} == {0}
    assert len(assign.reducers) == RULES.chunks_on_refresh
    assert centre.state.nodes[ALICE].proven
    assert centre.state.nodes[BOB].banned == "differs"


def test_a_banned_node_gets_no_further_place_and_reads_why_in_the_records(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay(BOB)
    centre.feed(Join("join", BOB, PEER_ID, "class", "2", True, False))
    assert centre.count(Answer) == 0, "our word alone is no reason for it to go: it may be outvoted"
    centre.exchange()
    centre.close(ALICE)
    centre.hear(ALICE, BOB, held=1)
    assert [member.node for member in centre.newest(Open).members] == [ALICE]


def test_newcomers_beside_proven_members_have_no_weight_and_are_always_audited(centre: Centre) -> None:
    centre.whole_round(ALICE, BOB)
    centre.whole_round(ALICE, BOB)
    assert centre.state.phase is Phase.WORKING
    centre.join(CAROL)
    centre.commit(ALICE, BOB)
    centre.exchange()
    centre.close(ALICE, BOB, CAROL)
    opened = centre.newest(Open)
    assert [(member.node, member.proven) for member in opened.members] == [(ALICE, True), (BOB, True), (CAROL, False)]
    centre.commit(ALICE, BOB, CAROL)
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.weightless, assign.rejected) == ((0, 1), (2,), ())
    assert 2 not in {item.slot for item in assign.reducers}
    assert centre.pick(Replay) == [], "nobody waits for its replay"
    centre.exchange()
    centre.close(ALICE, BOB, CAROL)
    centre.feed(Drawn(opened.round, audit_secret(RULES, opened.round), "0x", ()))
    assert [effect.slot for effect in centre.pick(Replay)] == [2], "it is audited though it was not drawn"
    centre.feed(replayed(opened.round, 2))
    judged = {item.slot: item for item in centre.newest(Verdict).judged}
    assert (judged[2].audited, judged[2].accepted) == (True, True)
    assert (judged[0].audited, judged[0].accepted) == (False, True)
    assert centre.state.nodes[CAROL].proven


def test_a_failed_audit_excludes_from_then_on(centre: Centre) -> None:
    """Also from the round that is under way: what was sealed meanwhile does not count."""
    centre.whole_round(ALICE, BOB)
    centre.commit(ALICE, BOB)
    centre.exchange()
    centre.close(ALICE, BOB)
    centre.hear(ALICE, BOB)
    assert centre.state.round == 2
    centre.judge(1, 0, 1, rejected=(1,))
    assert centre.newest(Verdict).judged[1].reason == "differs"
    assert (centre.state.nodes[BOB].banned, centre.state.nodes[BOB].proven) == ("differs", False)
    centre.commit(ALICE, BOB)
    assign = centre.newest(Assign)
    assert assign.accepted == (0,)
    assert [(item.slot, item.reason) for item in assign.rejected] == [(1, "differs")]


def test_rates_rise_with_what_is_at_stake_and_fall_with_audits(centre: Centre) -> None:
    centre.whole_round(ALICE, BOB)
    assert centre.newest(Seal).rates_ppm == (1_000_000, 1_000_000), "newcomers"
    for accepted in range(1, 4):
        centre.commit(ALICE, BOB)
        by_audits = -(-1_000_000 // (1 + accepted))
        assert centre.newest(Seal).rates_ppm == (max(RATE_PPM, by_audits), max(RATE_PPM, 500_000)), accepted
        centre.exchange()
        centre.close(ALICE, BOB)
        centre.judge(accepted, 0)
        centre.hear(ALICE, BOB)


def test_two_replays_that_disagree_decide_for_the_worker(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.feed(replayed(0, 0, wrong=True))
    centre.feed(replayed(0, 0, wrong=True))
    assert centre.count(Assign) == 0, "the same replay told twice is no second one"
    centre.feed(replayed(0, 0, again=True))
    centre.feed(replayed(0, 1))
    assert centre.newest(Assign).accepted == (0, 1)


def test_what_is_out_of_a_tolerance_only_suspends(centre: Centre) -> None:
    """Even twice: without a difference in bits there is no accusation."""
    outside = Replayed(0, 1, "rejected", "tolerant", "segment 3 differs by 0.02, honest drift is below 0.01")
    centre.commit(ALICE, BOB)
    centre.feed(replayed(0, 0))
    centre.feed(outside)
    centre.feed(replace(outside, again=True))
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.rejected, assign.weightless) == ((0,), (), (1,))


def test_work_on_which_nobody_can_decide_is_void_and_accuses_nobody(centre: Centre) -> None:
    """Before the exchange it only stays out of the average; the verdict, when it cannot decide either, says void."""
    undecided = Replayed(0, 1, "void", "tolerant", "no auditor has this class")
    centre.commit(ALICE, BOB)
    centre.feed(replayed(0, 0))
    centre.feed(undecided)
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.rejected, assign.weightless) == ((0,), (), (1,))
    centre.exchange()
    centre.close(ALICE, BOB)
    centre.feed(Drawn(0, audit_secret(RULES, 0), "0x", ()))
    assert [effect.slot for effect in centre.pick(Replay)] == [1], "it is looked at once more"
    centre.feed(undecided)
    judged = centre.newest(Verdict).judged[1]
    assert (judged.outcome, judged.evidence, judged.reason) == ("void", "tolerant", "no auditor has this class")
    assert centre.state.nodes[BOB].standing == Standing(voids=1)


def test_three_voids_take_its_weight_from_a_proven_node() -> None:
    centre = Centre(replace(RULES, rounds=6))
    centre.feed_until_still(Tick())
    centre.join(ALICE, BOB)
    centre.whole_round(ALICE, BOB)
    for round_ in range(1, 4):
        centre.commit(ALICE, BOB)
        assert centre.newest(Assign).accepted == (0, 1)
        centre.exchange()
        centre.close(ALICE, BOB)
        centre.feed(Drawn(round_, audit_secret(RULES, round_), "0x", (1,)))
        centre.feed(Replayed(round_, 1, "void", "none", "it has left"))
        assert centre.state.nodes[BOB].proven == (round_ < 3)
        centre.hear(ALICE, BOB)
    centre.whole_round(ALICE, BOB)
    assert [member.proven for member in centre.newest(Open).members] == [True, False]


def test_a_replay_that_fails_is_tried_again(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.feed(Failed("replay 0 1"))
    assert centre.pick(Replay) == []
    centre.now = 2.0
    centre.feed(Tick())
    assert [effect.slot for effect in centre.pick(Replay)] == [1]
