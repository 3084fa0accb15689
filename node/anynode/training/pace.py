"""Holds inner steps to a rate that the user sets, so that the machine has time for other things."""

from __future__ import annotations

import time
from collections.abc import Callable

from anynode.training.inner import Report
from anynode.training.messages import Progress

#: While it waits it reports again, so that a cancelled request ends soon and nobody takes it for dead.
WAIT_S_MAX = 0.2


def paced(
    report: Report,
    steps_per_s_max: float | None,
    *,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """``report``, which is called after each inner step of one piece of work, made to return in time with the rate.

    The rate holds on average over the work: a step that took long is made up for by the next ones.
    """
    if steps_per_s_max is None:
        return report
    began_s = now_s()

    def held(progress: Progress) -> None:
        report(progress)
        due_s = began_s + progress.done / steps_per_s_max
        while (left_s := due_s - now_s()) > 0:
            sleep(min(left_s, WAIT_S_MAX))
            report(progress)

    return held
