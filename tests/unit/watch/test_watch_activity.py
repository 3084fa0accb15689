"""What a member has done, in numbers, and the line at the terminal and the metrics that are made of them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from round_actors import ALICE, BOB, BODIES, chain_of

from anynode.cli.terminal import LineRates, live_line, rate_words
from anynode.rounds.course import Open, Result
from anynode.rounds.effects import Apply, FetchState, StartWork
from anynode.swarm.reachability import Way
from anynode.watch.activity import PHASES, Activity
from anynode.watch.member_metrics import MemberMetrics


class Clock:
    """Time that a test moves."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def played(node: str) -> tuple[Activity, Clock, list[str]]:
    """A member that has seen a whole round, ten seconds between two records; and the phases it went through."""
    clock, phases = Clock(), []
    activity = Activity(node, clock)
    for record in chain_of(*BODIES):
        activity.on_record(record)
        phases.append(activity.phase)
        clock.now_s += 10.0
    return activity, clock, phases


def test_a_round_in_numbers() -> None:
    activity, _, phases = played(ALICE)
    assert phases == ["starting", "working", "exchanging", "exchanging", "applying", "waiting", "waiting", "finished"]
    assert set(phases) <= set(PHASES)
    assert (activity.round, activity.members, activity.steps_of_round) == (0, 2, 4)
    assert (activity.samples_committed, activity.samples_accepted) == (8, 8)
    assert activity.verdicts == {"accepted": 1}
    assert (activity.rounds, activity.rounds_s, activity.last_round_s, activity.exchange_s) == (1, 40.0, 40.0, 20.0)


def test_what_others_did_is_not_counted_as_ours() -> None:
    activity, _, _ = played(BOB)  # it had a place, but committed nothing
    assert (activity.samples_committed, activity.samples_accepted, activity.verdicts) == (0, 0, {})
    stranger, _, phases = played("0x" + "9" * 40)
    assert phases[1] == "waiting" and stranger.steps_of_round == 0


def test_time_in_steps_is_utilisation_and_speed() -> None:
    clock = Clock()
    activity = Activity(ALICE, clock)
    records = chain_of(*BODIES)
    opened, result = records[1].body, records[4].body
    assert isinstance(opened, Open) and isinstance(result, Result)
    assert activity.utilisation == 0.0
    activity.on_record(records[1])
    with activity.doing(StartWork(opened, 0, 60.0)):
        for step in (1, 2, 3, 4):
            clock.now_s += 0.5
            activity.on_progress(step, 4, 2.5 - step / 10)
        assert activity.compute_s == 2.0  # while it still goes on
        assert activity.utilisation == 1.0
    clock.now_s += 6.0
    with activity.doing(Apply(opened, result)):
        clock.now_s += 2.0
    assert (activity.steps, activity.loss) == (4, pytest.approx(2.1))
    assert activity.steps_per_s == pytest.approx(2.0)
    assert activity.utilisation == pytest.approx(0.2)
    assert activity.seconds["apply"] == 2.0
    activity.on_progress(1, 4, None)  # a next round, at another speed: the average moves, the loss stays
    assert activity.steps == 4


def test_what_fails_is_not_counted_as_done() -> None:
    activity = Activity(ALICE, Clock())
    with pytest.raises(ValueError, match="gone"), activity.doing(FetchState(1, "1" * 64)):
        raise ValueError("gone")
    assert activity.done["state"] == 0
    with activity.doing(FetchState(1, "1" * 64)):
        pass
    assert activity.done["state"] == 1


def test_metrics_say_it_with_few_series() -> None:
    activity, _, _ = played(ALICE)
    activity.traffic.sent("blob", 1000)
    activity.traffic.received("round", 500)
    activity.way_in = Way.RELAY
    registry = CollectorRegistry()
    registry.register(MemberMetrics(activity))
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert found["anynode_member_phase", "finished"] == 1 and found["anynode_member_phase", "working"] == 0
    assert found["anynode_member_way_in", "relay"] == 1
    assert found["anynode_member_samples_accepted_total",] == 8
    assert found["anynode_member_verdicts_total", "accepted"] == 1
    assert found["anynode_member_round_seconds_sum",] == 40 and found["anynode_member_exchange_seconds_total",] == 20
    assert found["anynode_peer_bytes_total", "sent", "blob"] == 1000
    assert found["anynode_peer_bytes_total", "received", "round"] == 500
    assert len(found) < 60


def test_the_live_line_shows_round_step_loss_speed_and_line() -> None:
    rates = LineRates(time_s=2.0)
    for second, (sent, received) in enumerate([(0, 0), (2_000_000, 8_000), (4_000_000, 16_000)]):
        rates.measure(sent, received, float(second))
    assert rates.up_per_s == pytest.approx(1.5e6)
    activity = Activity(ALICE, Clock())
    assert live_line(activity, rates) == ""
    activity.round, activity.phase, activity.step, activity.steps_of_round = 12, "working", 340, 500
    activity.loss, activity.steps_per_s = 2.1342, 14.25
    assert live_line(activity, rates) == (
        "round 12 · step 340/500 · loss 2.134 · 14.2 steps/s · ↑ 1.5 MB/s ↓ 6.0 kB/s · computing 0%"
    )
    activity.phase = "exchanging"
    assert "round 12 · exchanging · loss" in live_line(activity, rates)
    assert [rate_words(rate) for rate in (0.0, 999.4, 1000.0, 2.5e9)] == ["0 B/s", "999 B/s", "1.0 kB/s", "2.5 GB/s"]
