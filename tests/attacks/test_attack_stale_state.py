"""A stale start state."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

ATTACK = Attack(
    "stale start state",
    "A worker trains from the state of the round before and claims to have begun from this round's.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec(round_=1)
    stale = shop.work(replace(spec, round=0, state_root=shop.roots[0]))
    done = shop.with_update(spec, stale, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, done))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)
