"""A coordinator opens rounds and seals them: who gets a place and how much to do, and whose commitment counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import PEER_ID, START
from round_centre import ALICE, BOB, CAROL, RATE_PPM, RULES, Centre, root_of

from anynode.rounds.coordination import RETURN_S
from anynode.rounds.coordinator import Phase, State, audit_secret, carry_over, restore
from anynode.rounds.course import Assign, Finish, Open, Result, Seal
from anynode.rounds.effects import (
    Answer,
    CoordinatorEffect,
    GetBeacon,
    SendRecords,
)
from anynode.rounds.events import AuditRates, Beacon, CoordinatorMessage, Ended, Failed, Gone, Tick
from anynode.rounds.messages import Join, Leave, Receipt, Sync
from anynode_contracts.canonical import hash_hex

# --- opening --------------------------------------------------------------------------------------------------------


def test_a_job_begins_and_waits_for_its_first_members() -> None:
    centre = Centre()
    centre.feed(Tick())
    assert [record.body.kind for record in centre.records] == ["begin"]
    centre.join(ALICE)
    assert centre.state.phase is Phase.WAITING, "members_min is two"
    centre.join(BOB)
    opened = centre.newest(Open)
    assert [member.node for member in opened.members] == [ALICE, BOB]
    assert opened.state_root == START
    assert opened.refresh
    assert opened.cursor == 16


def test_an_opening_names_the_thresholds_of_its_round() -> None:
    for thresholds in ("", root_of("thresholds")):
        centre = Centre(replace(RULES, thresholds=thresholds))
        centre.feed(Tick())
        centre.join(ALICE, BOB)
        assert centre.newest(Open).thresholds == thresholds


def test_a_node_without_the_state_or_out_of_reach_gets_no_place() -> None:
    centre = Centre()
    centre.feed_until_still(Tick())
    centre.feed_until_still(Join("join", ALICE, PEER_ID, "class", "1", True, False))
    centre.hear(ALICE, held=-1)
    centre.join(BOB)
    assert centre.count(Open) == 0, "Alice has no state"
    centre.now = 6.0
    centre.hear(ALICE)
    assert centre.count(Open) == 0, "Bob has not been heard for six seconds"
    centre.hear(BOB)
    assert centre.count(Open) == 1


def test_who_has_left_gets_no_further_place(centre: Centre) -> None:
    centre.feed_until_still(Leave("leave", BOB))
    assert not centre.state.nodes[BOB].joined
    centre.commit(ALICE)
    assert centre.state.phase is Phase.ADMITTING, "nobody waits for Bob"


def test_a_stranger_who_syncs_is_only_sent_records(centre: Centre) -> None:
    centre.feed(Sync("sync", CAROL, 0, 0))
    assert centre.pick(SendRecords) == [SendRecords(CAROL, 0)]
    assert CAROL not in centre.state.nodes
    centre.feed(Sync("sync", CAROL, centre.state.height, 0))
    assert centre.effects == []


def test_the_beacon_is_asked_for_again_when_it_fails() -> None:
    centre = Centre()
    centre.feed(Tick())
    for name in (ALICE, BOB):
        centre.feed(Join("join", name, PEER_ID, "class", "1", True, False))
        centre.feed(Sync("sync", name, 1, 0))
    assert centre.pick(GetBeacon) == [GetBeacon(0)]
    assert centre.feed(Tick()) == [], "it is under way"
    assert centre.feed(Failed("beacon 0")) == [], "it rests"
    centre.now = 2.0
    assert centre.feed(Tick()) == [GetBeacon(0)]


# --- client-only members, leavers, pace -----------------------------------------------------------------------------


def test_members_that_nobody_can_reach_train_and_do_not_reduce() -> None:
    centre = Centre()
    centre.feed_until_still(Tick(), Join("join", ALICE, PEER_ID, "class", "1", False, False))
    centre.join(BOB)
    centre.hear(ALICE)
    centre.commit(ALICE, BOB)
    centre.replay()
    assert [member.reduces for member in centre.newest(Open).members] == [False, True]
    assign = centre.newest(Assign)
    assert assign.accepted == (0, 1)
    assert {(item.slot, item.witness) for item in assign.reducers} == {(1, 1)}


def test_without_anybody_to_reduce_no_round_opens() -> None:
    centre = Centre(replace(RULES, members_min=1))
    centre.feed_until_still(Tick(), Join("join", ALICE, PEER_ID, "class", "1", False, False))
    centre.hear(ALICE)
    assert centre.count(Open) == 0
    centre.join(BOB)
    assert centre.count(Open) == 1


def test_who_has_left_commits_to_nothing_further_but_keeps_what_it_had(centre: Centre) -> None:
    centre.commit(ALICE)
    centre.feed(Leave("leave", ALICE))
    centre.feed(centre.commitment(ALICE))
    assert centre.pick(Answer), "its receipt again"
    centre.feed_until_still(Leave("leave", BOB), centre.commitment(BOB))
    assert [item.slot for item in centre.newest(Seal).commitments] == [0]


def test_quotas_follow_what_members_have_shown(centre: Centre) -> None:
    """Bob takes four times as long for his steps, so he is given a quarter of Alice's, and the deadline follows."""
    for _ in range(2):
        start = centre.now
        opened = centre.newest(Open)
        for name, seconds_per_step in ((ALICE, 0.5), (BOB, 2.0)):
            place = next(member for member in opened.members if member.node == name)
            centre.now = start + place.quota_steps * seconds_per_step
            centre.hear(ALICE, BOB)
            steps = place.quota_steps
            centre.feed_until_still(centre.commitment(name, steps=steps, samples=2 * steps))
        centre.replay()
        centre.exchange()
        centre.close(ALICE, BOB)
        centre.judge(centre.state.round - 1)
        centre.hear(ALICE, BOB)
    opened = centre.newest(Open)
    assert [member.quota_steps for member in opened.members] == [8, 4], "twice a round's steps at most"
    assert opened.work_s == 15


def test_gradient_mode_counts_one_step_a_round_and_never_carries_moments() -> None:
    centre = Centre(replace(RULES, inner_steps_min=1, inner_steps_max=1, newcomer_steps=1, publishes_moments=False))
    centre.feed_until_still(Tick())
    centre.join(ALICE, BOB)
    centre.feed_until_still(*(centre.commitment(name, steps=1, samples=2) for name in (ALICE, BOB)))
    centre.replay()
    assert len(centre.newest(Assign).reducers) == RULES.chunks
    centre.exchange()
    assert not centre.newest(Open).refresh
    assert centre.newest(Result).steps == 1


# --- commitments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": 1},
        {"slot": 2},
        {"slot": 100_000},
        {"node": CAROL},
        {"steps": 0, "samples": 0},
        {"steps": 5, "samples": 10},
        {"samples": 9},
        {"samples": 0},
        {"steps": 3},
        {"round": 1},
    ],
    ids=str,
)
def test_a_commitment_that_does_not_fit_is_ignored(centre: Centre, changes: dict[str, object]) -> None:
    before = centre.state
    assert centre.feed(centre.commitment(ALICE, **changes)) == []
    assert centre.state == before


def test_a_commitment_gets_a_receipt_and_may_be_a_prefix_of_the_quota(centre: Centre) -> None:
    sent = centre.commitment(ALICE, steps=1, samples=2)
    centre.feed(sent)
    expected = Receipt("receipt", ALICE, 0, 0, sent.update_root, sent.trace_root)
    assert centre.pick(Answer) == [Answer(ALICE, expected)]
    assert centre.state.commitments == {0: sent}


def test_the_first_commitment_stays(centre: Centre) -> None:
    """The receipt of a second one names the first, so its sender knows what counts."""
    first, second = centre.commitment(ALICE), centre.commitment(ALICE, update_root=root_of("better"))
    centre.feed(first)
    centre.feed(second)
    assert centre.state.commitments == {0: first}
    (answer,) = centre.pick(Answer)
    assert isinstance(answer.message, Receipt)
    assert answer.message.update_root == first.update_root
    centre.commit(BOB)
    assert [item.update_root for item in centre.newest(Seal).commitments] == [first.update_root, root_of(BOB, 0)]


def test_a_commitment_after_the_seal_is_ignored(centre: Centre) -> None:
    centre.now = 19.0
    centre.hear(ALICE, BOB)
    centre.commit(ALICE)
    assert centre.count(Seal) == 0
    centre.now = 20.0
    centre.feed_until_still(Tick())
    seal = centre.newest(Seal)
    assert [item.slot for item in seal.commitments] == [0]
    assert [item.slot for item in seal.missing] == [1]
    before = centre.state
    assert centre.feed(centre.commitment(BOB)) == []
    assert centre.state == before


def test_the_seal_waits_for_the_living_until_the_deadline(centre: Centre) -> None:
    centre.commit(ALICE)
    assert centre.state.phase is Phase.WORKING, "Bob is alive"
    centre.now = 5.9
    centre.hear(ALICE)
    assert centre.state.phase is Phase.WORKING
    centre.now = 6.0
    centre.feed_until_still(Tick())
    assert centre.state.phase is Phase.ADMITTING, "Bob has not been heard for six seconds"


def test_whose_connection_has_closed_is_not_waited_for_until_it_is_heard(centre: Centre) -> None:
    centre.feed_until_still(Gone(BOB))
    centre.hear(BOB)
    centre.commit(ALICE)
    assert centre.state.phase is Phase.WORKING, "Bob has been heard since"
    centre.feed_until_still(Gone(BOB))
    assert centre.state.phase is Phase.ADMITTING
    centre.feed_until_still(Gone("0x" + "0" * 40))


def test_the_audit_block_is_still_to_come_when_the_round_is_sealed(centre: Centre) -> None:
    """The block that opened the round is old by then: everybody could know the hash that completes the draw."""
    at_opening = centre.height
    centre.commit(ALICE)
    centre.feed(centre.commitment(BOB))
    centre.feed(AuditRates(0, (0, RATE_PPM)))
    assert centre.pick(GetBeacon) == [GetBeacon(0)], "a new block is asked for"
    assert centre.count(Seal) == 0
    centre.feed(Beacon(0, "0x" + "9" * 64, at_opening + 50))
    assert centre.newest(Seal).audit_height == at_opening + 50
    assert centre.newest(Seal).secret_hash == hash_hex(bytes.fromhex(audit_secret(RULES, 0)))


class Unseen(Centre):
    """A coordinator whose chain has been silent since it started."""

    silent = True

    def feed(self, message: CoordinatorMessage) -> list[CoordinatorEffect]:
        if self.silent and isinstance(message, Beacon):
            message = replace(message, block_hash="f" * 64, audit_height=0)
        return super().feed(message)


def started_anew(before: Centre) -> Unseen:
    centre = Unseen()
    centre.records, centre.now, centre.height = before.records, before.now, before.height
    centre.state = restore(RULES, before.records, before.now)
    return centre


def test_who_has_not_seen_the_chain_yet_names_a_block_after_all_that_were_sealed(centre: Centre) -> None:
    """A height counted from nothing would be that of a block long past, also to whoever audits the job later."""
    centre.commit(ALICE, BOB)
    centre.replay()
    centre.exchange()
    known = centre.newest(Seal).audit_height
    again = started_anew(centre)
    again.close(ALICE, BOB)
    again.now += RETURN_S
    again.hear(ALICE, BOB)
    assert again.newest(Open).round == 1
    again.whole_round(ALICE, BOB)
    again.commit(ALICE, BOB)
    seals = [record.body for record in again.records if isinstance(record.body, Seal)]
    assert [seal.audit_height for seal in seals] == [known, known + 1, known + 2]


def test_a_round_that_was_opened_with_a_block_is_sealed_once_the_chain_is_seen(centre: Centre) -> None:
    """That block may be later than all that were sealed before."""
    again = started_anew(centre)
    again.commit(ALICE, BOB)
    assert again.count(Seal) == 0
    assert again.feed(Tick()) == [], "it rests"
    again.now += 2.0
    again.silent = False
    again.feed_until_still(Tick())
    assert again.newest(Seal).audit_height == again.height + 2


def test_a_job_that_is_over_on_the_chain_finishes_with_the_round_under_way(centre: Centre) -> None:
    centre.feed_until_still(Ended())
    assert centre.count(Finish) == 0 and centre.state.phase is Phase.WORKING
    centre.whole_round(ALICE, BOB)
    assert centre.newest(Finish) == Finish("finish", 1, centre.state.state_root, ended=True)
    assert (centre.count(Open), centre.state.phase) == (1, Phase.FINISHED)
    assert carry_over(State(RULES), centre.state).ended, "whatever another verifier's records make it forget"


def test_a_job_that_is_over_before_anybody_came_finishes() -> None:
    alone = Centre(RULES)
    alone.feed_until_still(Ended(), Tick())
    assert alone.newest(Finish).rounds == 0
