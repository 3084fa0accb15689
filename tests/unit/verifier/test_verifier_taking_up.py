"""How a verifier takes up what others have: no job holds up another one, whatever is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from anynode_contracts.errors import RefusedError, UnreachableError, UserError
from anynode_verifier.taking_up import AGAIN_S_MAX, TURN_S, TakingUp


class Other:
    """Another verifier and its jobs; time passes only in what a test does."""

    def __init__(self, *jobs: str) -> None:
        self.jobs, self.here, self.tried = list(jobs), set[str](), list[str]()
        self.refused = dict[str, UserError]()
        self.turns = dict[str, int]()
        self.silent = False
        self.now = 0.0
        self.taking_up = TakingUp(self._unknown, self._take_up, lambda: self.now)

    def look(self) -> None:
        asyncio.run(self.taking_up.look())

    def look_until(self, condition: Callable[[], bool], limit_s: float) -> None:
        end = self.now + limit_s
        while not condition():
            assert self.now < end
            self.look()
            self.now += 2.0

    async def _unknown(self) -> list[str]:
        if self.silent:
            raise UnreachableError("it does not answer")
        return [job for job in self.jobs if job not in self.here]

    async def _take_up(self, job: str) -> None:
        self.tried.append(job)
        if job in self.refused:
            raise self.refused[job]
        left = self.turns.get(job, 0)
        if left:
            self.turns[job], self.now = left - 1, self.now + TURN_S
        else:
            self.here.add(job)


def test_one_that_is_refused_holds_up_no_other() -> None:
    other = Other("bad", "good", "late")
    other.refused["bad"] = RefusedError("it was never funded")
    other.look()
    assert other.here == {"good", "late"}


def test_a_refusal_is_said_once_and_tried_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    other = Other("bad")
    other.refused["bad"] = RefusedError("it was never funded")
    other.look_until(lambda: other.now > 3_600, 4_000)
    assert [record.getMessage() for record in caplog.records] == [
        "job bad of another verifier is not taken up yet: it was never funded"
    ]
    assert 10 < len(other.tried) < 20, "and not every two seconds"
    other.refused = {}
    other.look_until(lambda: other.here == {"bad"}, AGAIN_S_MAX + 2)


def test_another_reason_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    other = Other("bad")
    for why in ("the RPC is silent", "it was never funded"):
        other.refused["bad"] = RefusedError(why)
        other.look()
        other.now += AGAIN_S_MAX
    assert len(caplog.records) == 2


def test_large_files_let_others_through_between_their_turns() -> None:
    other = Other("large", "larger")
    other.turns = {"large": 500, "larger": 500}
    other.look_until(lambda: len(other.tried) > 10, 3_600)
    other.jobs.append("new")
    before = len(other.tried)
    other.look_until(lambda: "new" in other.here, 2 * TURN_S)
    assert len(other.tried) - before <= 2, "and that at once, for it had no turn yet"
    other.look_until(lambda: other.here == {"large", "larger", "new"}, 1_010 * (TURN_S + 2.0))


def test_a_silent_verifier_is_asked_again_and_what_it_drops_is_forgotten() -> None:
    other = Other("bad")
    other.refused["bad"] = RefusedError("it was never funded")
    other.look()
    other.silent = True
    other.look()
    other.silent, other.jobs, other.refused = False, [], {}
    other.look()
    other.jobs = ["bad"]
    other.look()
    assert other.here == {"bad"}, "listed anew, it need not wait"
