"""An opening refused."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from court import Court
from purse import Purse
from workshop import STEPS, Lie, Workshop

ATTACK = Attack(
    "opening refused",
    "A worker that has cheated shows the leaves of its trace to nobody, so that no segment can be named.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    shorter = shop.work(shop.spec(steps=spec.steps // 2))
    done = shop.with_update(spec, shorter, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, done))


def honest(shop: Workshop) -> Lie:
    spec = shop.spec()
    return Lie(spec, shop.work(spec))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    """The whole round is then replayed; an honest worker that shows nothing is accepted all the same."""
    lie = court.lie(cheat)
    verdict = court.replay(lie, shown=False)
    assert not verdict.accepted and verdict.steps == STEPS, verdict.reason
    assert court.replay(court.lie(honest), shown=False).accepted
    paid_wei, slashed_wei = purse.after_replays(verdict, court.replay(lie, shown=False))
    expect(Finding("caught", verdict.reason, paid_wei, slashed_wei))
