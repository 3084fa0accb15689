"""What one member is doing and has done, in plain numbers: read by its metrics and by its line at the terminal.

The worker tells it what it does (`doing`, `on_progress`) and which records arrive (`on_record`); nothing here acts.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from anynode.rounds.course import Close, Finish, Open, Result, Seal
from anynode.rounds.effects import Apply, Deliver, FetchState, MemberEffect, Reduce, StartWork
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode.swarm.conduct import Conduct
from anynode.swarm.reachability import Way
from anynode.swarm.traffic import Traffic

ROUNDS_REMEMBERED = 128
RATE_TIME_S = 10.0  # over about how long the speed shown is averaged

_KINDS: dict[type, str] = {
    StartWork: "compute",
    Deliver: "deliver",
    Reduce: "reduce",
    Apply: "apply",
    FetchState: "state",
}


@dataclass
class Activity:
    """``node`` is this member's address. Times are seconds of ``clock``; ``phase`` is a word of `PHASES`."""

    node: str
    clock: Callable[[], float] = time.monotonic
    job: str = ""
    round: int = -1
    phase: str = "starting"
    members: int = 0
    step: int = 0
    steps_of_round: int = 0
    loss: float | None = None
    steps_per_s: float = 0.0
    steps: int = 0
    samples_committed: int = 0
    samples_accepted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    done: Counter[str] = field(default_factory=Counter)
    exchange_s: float = 0.0
    rounds: int = 0
    rounds_s: float = 0.0
    last_round_s: float = 0.0
    reduces: bool = True
    way_in: Way = Way.LOCAL
    traffic: Traffic = field(default_factory=Traffic)
    conduct: Conduct | None = None
    _began_s: float = -1.0
    _opened_s: float = -1.0
    _sealed_s: float = -1.0
    _stepped: tuple[float, int] = (-1.0, 0)
    _compute_since_s: float = -1.0
    _samples: OrderedDict[int, int] = field(default_factory=OrderedDict)

    @contextlib.contextmanager
    def doing(self, effect: MemberEffect) -> Iterator[None]:
        """The time and, if it ends well, the number of what the core has asked for."""
        kind = _KINDS.get(type(effect), "")
        began_s = self.clock()
        if kind == "compute":
            self._compute_since_s, self._stepped = began_s, (began_s, 0)
        try:
            yield
            self.done[kind] += 1
        finally:
            if kind == "compute":
                self._compute_since_s = -1.0
            self.seconds[kind] += self.clock() - began_s

    def on_progress(self, step: int, of: int, loss: float | None) -> None:
        """``step`` inner steps of this round's ``of`` are done."""
        now_s = self.clock()
        before_s, before = self._stepped
        if step > before and now_s > before_s >= 0:
            rate = (step - before) / (now_s - before_s)
            share = 1.0 if self.steps_per_s == 0 else 1 - math.exp(-(now_s - before_s) / RATE_TIME_S)
            self.steps_per_s += share * (rate - self.steps_per_s)
        self.steps += max(0, step - before)
        self._stepped = (now_s, step)
        self.step, self.steps_of_round = step, of
        if loss is not None:
            self.loss = loss

    def on_record(self, record: Record) -> None:
        """A checked record of the job has arrived."""
        now_s, body = self.clock(), record.body
        match body:
            case Open():
                slot = next((item.slot for item in body.members if item.node == self.node), None)
                self.round, self.members = body.round, len(body.members)
                self.phase = "waiting" if slot is None else "working"
                self.step = 0
                self.steps_of_round = 0 if slot is None else body.members[slot].quota_steps
                self._opened_s = now_s
                self._began_s = now_s if self._began_s < 0 else self._began_s
            case Seal():
                self.phase, self._sealed_s = "exchanging", now_s
                mine = next((item for item in body.commitments if item.node == self.node), None)
                if mine is not None:
                    self.samples_committed += mine.samples
                    self._samples[body.round] = mine.samples
                    if len(self._samples) > ROUNDS_REMEMBERED:
                        self._samples.popitem(last=False)
            case Result():
                self.phase = "applying"
                if self._sealed_s >= 0:
                    self.exchange_s += now_s - self._sealed_s
            case Close():
                self.phase = "waiting"
                if self._opened_s >= 0:
                    self.rounds += 1
                    self.last_round_s = now_s - self._opened_s
                    self.rounds_s += self.last_round_s
            case Verdict():
                for item in body.judged:
                    if item.node == self.node:
                        self.verdicts[item.outcome] += 1
                        self.samples_accepted += self._samples.pop(body.round, 0) if item.accepted else 0
            case Finish():
                self.phase = "finished"
            case _:
                pass

    @property
    def compute_s(self) -> float:
        """Seconds in inner steps, those under way included."""
        since_s = self._compute_since_s
        return self.seconds["compute"] + (self.clock() - since_s if since_s >= 0 else 0.0)

    @property
    def utilisation(self) -> float:
        """The share of its time in the swarm that this member has spent computing; 0 before its first round."""
        lived_s = self.clock() - self._began_s
        return min(1.0, self.compute_s / lived_s) if self._began_s >= 0 and lived_s > 0 else 0.0


PHASES = ("starting", "waiting", "working", "exchanging", "applying", "finished")
