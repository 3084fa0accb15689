"""The coordinator's core: how rounds and jobs end, and that a restart loses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_centre import ALICE, BOB, RULES, Centre, root_of
from test_schedules import run_schedule
from world import RULES as WORLD_RULES
from world import World, ends, opens
from world_cast import Role, Weather

from anynode.rounds import coordinator
from anynode.rounds.coordinator import Phase, State, absorb, audit_secret, restore
from anynode.rounds.course import Close, Finish, Open, Seal
from anynode.rounds.effects import (
    DrawAudits,
)
from anynode.rounds.events import Applied, Tick
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import StateReport

# --- the close ------------------------------------------------------------------------------------------------------


def test_a_state_that_differs_is_a_fork_and_no_witness(exchanging: Centre) -> None:
    exchanging.exchange()
    root = root_of("state", 1)
    exchanging.feed_until_still(StateReport("state_report", BOB, 0, root_of("another")))
    exchanging.feed_until_still(Applied(0, root))
    assert exchanging.count(Close) == 0, "Alice has not reported yet"
    exchanging.feed_until_still(StateReport("state_report", ALICE, 0, root))
    closed = exchanging.newest(Close)
    assert ([report.node for report in closed.reports], closed.forks) == ([ALICE], (BOB,))
    assert closed.state_root == root
    assert (exchanging.state.nodes[ALICE].state_round, exchanging.state.nodes[BOB].state_round) == (1, -1)
    exchanging.hear(ALICE)
    assert [member.node for member in exchanging.newest(Open).members] == [ALICE]


def test_the_close_does_not_wait_for_the_silent_for_ever(exchanging: Centre) -> None:
    exchanging.exchange()
    exchanging.feed_until_still(Applied(0, root_of("state", 1)))
    exchanging.feed_until_still(StateReport("state_report", ALICE, 0, root_of("state", 1)))
    exchanging.now = 5.9
    exchanging.hear(BOB)
    assert exchanging.count(Close) == 0
    exchanging.now = 10.0
    exchanging.hear(BOB, held=0)
    assert exchanging.count(Close) == 1


def test_the_job_finishes_after_its_rounds(centre: Centre) -> None:
    for _ in range(RULES.rounds):
        centre.whole_round(ALICE, BOB)
    assert centre.state.phase is Phase.FINISHED
    finish = centre.newest(Finish)
    assert (finish.rounds, finish.state_root) == (5, root_of("state", 5))
    assert [record.body.round for record in centre.records if isinstance(record.body, Verdict)] == list(range(5))
    refreshed = [record.body.refresh for record in centre.records if isinstance(record.body, Open)]
    assert refreshed == [True, False, True, False, True]
    assert centre.feed(Tick()) == []


def test_training_does_not_wait_for_audits(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay()
    centre.exchange()
    centre.close(ALICE, BOB)
    assert centre.pick(DrawAudits) or "draw 0" in centre.state.asked
    centre.hear(ALICE, BOB)
    assert centre.state.round == 1
    assert centre.state.phase is Phase.WORKING
    assert set(centre.state.audits) == {0}
    centre.judge(0)
    assert centre.newest(Verdict).round == 0
    assert centre.state.audits == {}


def test_each_rounds_secret_is_its_own() -> None:
    secrets = {audit_secret(RULES, round_) for round_ in range(10)}
    secrets |= {audit_secret(replace(RULES, job="b" * 64), 0), audit_secret(replace(RULES, audit_key=b"l" * 32), 0)}
    assert len(secrets) == 12
    assert all(len(secret) == 64 for secret in secrets)


# --- restarts -------------------------------------------------------------------------------------------------------


def same(live: State, again: State) -> None:
    """What records decide is equal; what only the living say may differ."""
    for name in ("phase", "round", "state_root", "height", "head", "cursor", "returned", "has_moments"):
        assert getattr(again, name) == getattr(live, name), name
    assert (again.open, again.seal, again.assign, again.result) == (live.open, live.seal, live.assign, live.result)
    assert again.audits.keys() == live.audits.keys()
    for name, node in live.nodes.items():
        if name in again.nodes:
            assert (again.nodes[name].proven, again.nodes[name].banned) == (node.proven, node.banned), name
        else:
            assert not node.proven, "nothing that only the living said makes a node proven"
            assert not node.banned


def test_a_restart_after_every_record_goes_on_from_the_same_state(centre: Centre) -> None:
    for _ in range(3):
        centre.whole_round(ALICE, BOB)
    live = State(RULES)
    for length, record in enumerate(centre.records, 1):
        live = absorb(live, record, 0.0)
        same(live, restore(RULES, centre.records[:length], 99.0))
    same(centre.state, restore(RULES, centre.records, 99.0))


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_a_restart_of_any_simulated_world_gives_the_live_state(seed: int) -> None:
    world = run_schedule(seed)
    live = world.peers["coordinator"].state
    assert isinstance(live, coordinator.State), f"seed {seed}"
    same(live, restore(world.rules, world.records, world.now))


def test_a_restarted_coordinator_takes_commitments_that_are_sent_again(centre: Centre) -> None:
    centre.commit(ALICE)
    again = Centre()
    again.records, again.state, again.now = centre.records, restore(RULES, centre.records, 500.0), 500.0
    assert again.state.commitments == {}
    assert again.state.phase is Phase.WORKING
    again.commit(ALICE, BOB)
    assert [item.slot for item in again.newest(Seal).commitments] == [0, 1]


def test_a_restarted_coordinator_gives_members_time_to_be_heard_again(centre: Centre) -> None:
    again = Centre()
    again.records, again.state, again.now = centre.records, restore(RULES, centre.records, 500.0), 505.0
    again.feed_until_still(Tick())
    assert again.state.phase is Phase.WORKING
    again.now = 506.0
    again.feed_until_still(Tick())
    assert again.count(Seal) == 0, "nobody is there any more, and a round without any work would be void"
    again.now = 520.0
    again.feed_until_still(Tick())
    assert again.count(Seal) == 1


def test_a_job_ends_before_a_round_that_its_budget_cannot_pay() -> None:
    """Simulated: with steps for one round of two members and a part of another, the last deals what is left."""
    rules = replace(WORLD_RULES, rounds=9, newcomer_steps=8, members_min=2, samples_max=2 * (2 * 8 + 12) + 1)
    world = World(3, [Role(), Role()], Weather(), rules)
    world.run(600.0)
    quotas = [[place.quota_steps for place in opened.members] for opened in opens(world).values()]
    assert [sum(steps) for steps in quotas] == [16, 12], quotas
    assert [end.rounds for end in ends(world)] == [len(quotas)]
