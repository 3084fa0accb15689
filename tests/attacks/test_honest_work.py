"""What makes the attacks worth reading: work done honestly in the same workshop is accepted, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from court import Court
from purse import Purse
from workshop import Lie, Workshop


def honest(shop: Workshop) -> Lie:
    spec = shop.spec()
    return Lie(spec, shop.work(spec))


def honest_by_hand(shop: Workshop) -> Lie:
    """With the tools that cheats use: they change nothing by themselves."""
    spec = shop.spec(slot=1)
    done = shop.with_update(spec, shop.trained_on(spec, lambda _, batch: batch), lambda _, values: values)
    return Lie(spec, done)


@pytest.mark.parametrize("work", [honest, honest_by_hand])
@pytest.mark.parametrize("shown", [True, False])
def test_honest_work_is_accepted(court: Court, work: object, shown: bool) -> None:
    verdict = court.replay(court.lie(work), shown=shown)  # type: ignore[arg-type]
    assert verdict.accepted, verdict.reason


def test_what_replays_accept_is_paid_and_what_two_reject_is_not(court: Court, purse: Purse) -> None:
    """So that an attack that passed would show in its money."""
    accepted = court.replay(court.lie(honest))
    rejected = replace(accepted, accepted=False)
    for replays in ((accepted, accepted), (rejected, accepted)):
        paid_wei, slashed_wei = purse.after_replays(*replays)
        assert paid_wei > 0 and slashed_wei == 0
    paid_wei, slashed_wei = purse.after_replays(rejected, rejected)
    assert paid_wei == 0 and slashed_wei > 0
