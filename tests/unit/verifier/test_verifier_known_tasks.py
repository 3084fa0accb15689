"""The share of known tasks: neither laziness nor a friend pays, and nobody can tell which they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_world import SignedWorld, make_job

from anynode.rounds.audits import Audit
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.events import Drawn
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_verifier.known_tasks import FLOOR_PPM, known_share_ppm, plan_tasks
from anynode_verifier.rates import COST_PERCENT, break_even_ppm

REWARD = 10**9


@given(st.integers(1, 10**12), st.integers(0, 10**14), st.integers(0, 10**14), st.floats(0, 1))
def test_laziness_and_friendship_do_not_pay(reward: int, at_risk: int, worker_at_risk: int, friends: float) -> None:
    """Whatever part of the audits is in the hands of friends, at the lowest rate that the worker's stake asks for."""
    share = known_share_ppm(reward, at_risk, worker_at_risk) / EVERY_TIME_PPM
    cost = COST_PERCENT / 100 * reward
    assert share == 1 or share * at_risk > cost
    rate = break_even_ppm(reward, worker_at_risk) / EVERY_TIME_PPM
    heard = friends * (1 - share)
    lost = rate * ((1 - heard) * (worker_at_risk + reward) + friends * share * at_risk)
    assert lost >= cost * (1 - 1e-5) or share == rate == 1


@pytest.mark.parametrize(
    ("at_risk", "worker_at_risk", "expected"),
    [(0, 33, EVERY_TIME_PPM), (33, 33, 481_344), (3, 33, 871_622), (33, 0, FLOOR_PPM), (33, 10, 236_364)],
)
def test_shares_by_hand(at_risk: int, worker_at_risk: int, expected: int) -> None:
    """In rewards of a round."""
    assert known_share_ppm(REWARD, at_risk * REWARD, worker_at_risk * REWARD) == expected


@pytest.fixture(scope="module")
def audited() -> Audit:
    """A round of eight auditors, all of whom are drawn."""
    world = SignedWorld(make_job(rounds=2), 5, 8, auditors=("honest",) * 8)
    world.run(600.0)
    assert world.finished()
    bodies = [record.body for record in world.records]
    opened = next(body for body in bodies if isinstance(body, Open) and body.round == 1)
    seal = next(body for body in bodies if isinstance(body, Seal) and body.round == 1)
    assign = next(body for body in bodies if isinstance(body, Assign) and body.round == 1)
    result = next(body for body in bodies if isinstance(body, Result) and body.round == 1)
    return Audit(opened, seal, assign, result, Drawn(1, "", "0x", tuple(range(8))))


def test_each_piece_of_work_has_another_auditor_than_its_worker(audited: Audit) -> None:
    plans = plan_tasks(audited, "a" * 64, "0x1", lambda *_: 300_000)
    assert [plan.slot for plan in plans] == list(audited.for_others) != []
    assert all(plan.auditor != plan.slot for plan in plans)


def test_the_secret_draws_as_many_known_tasks_as_the_share_says(audited: Audit) -> None:
    steps = {item.slot: item.steps for item in audited.seal.commitments}
    plans = [plan for number in range(200) for plan in plan_tasks(audited, f"{number:064x}", "0x1", lambda *_: 400_000)]
    known = [plan for plan in plans if plan.known]
    decoys = [plan for plan in known if plan.steps != steps[plan.slot]]
    assert 0.35 < len(known) / len(plans) < 0.45
    assert 0.19 < len(decoys) / len(known) < 0.31
    assert all(0 < plan.steps < steps[plan.slot] for plan in decoys)
    assert all(plan.steps == steps[plan.slot] for plan in plans if not plan.known)


def test_without_a_secret_all_tasks_are_known(audited: Audit) -> None:
    assert all(plan.known for plan in plan_tasks(audited, "", "0x1", lambda *_: 1))
