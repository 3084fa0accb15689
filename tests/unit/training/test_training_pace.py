"""A user's limit on the speed of training holds on average, and waiting for it can be broken off."""

from __future__ import annotations

import pytest

from anynode.training.messages import Progress
from anynode.training.pace import paced


class Clock:
    """A clock that only sleeping and the work itself move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_steps_take_as_long_as_the_rate_says_and_a_slow_one_is_made_up_for() -> None:
    clock = Clock()
    report = paced(lambda _: None, 2.0, now_s=clock, sleep=clock.sleep)
    ends = []
    for step, cost_s in enumerate((0.1, 0.8, 0.1, 0.1), start=1):
        clock.now_s += cost_s
        report(Progress(step, 4))
        ends.append(clock.now_s - 100.0)
    assert ends == pytest.approx([0.5, 1.3, 1.5, 2.0])


def test_a_machine_that_is_slower_than_the_rate_never_waits() -> None:
    clock = Clock()
    report = paced(lambda _: None, 10.0, now_s=clock, sleep=lambda _: pytest.fail("it waited"))
    for step in range(1, 4):
        clock.now_s += 0.3
        report(Progress(step, 3))


def test_a_cancelled_request_ends_while_it_waits() -> None:
    """What a report raises ends the work; a very low rate must not keep it from being asked."""
    clock = Clock()

    def report(_: Progress) -> None:
        if clock.now_s > 101.0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        paced(report, 0.001, now_s=clock, sleep=clock.sleep)(Progress(1, 2))
    assert clock.now_s < 102.0
