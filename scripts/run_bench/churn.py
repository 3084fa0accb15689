"""A swarm whose peers are killed and come back, against the same swarm left alone: forks, lost rounds, goodput, stalls.

Workers are paced to one step rate far below what the machine can do, so that what is measured is the protocol and not
the competition for two cores. First nobody is touched. Then every 30 s one worker is killed with SIGKILL and started
again at once, others join late, and the coordinator is killed and started again once.

A peer lives, and is counted, from the moment at which it has reached the coordinator until it is killed: its loading
of the model, its waiting for a place and what it loses by its death all count against goodput. Time in which a process
starts up is added in ``goodput_ratio_with_start``.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass

from churn_swarm import VERIFIER, ChurnSwarm
from report import Goal, Report, Say

from anynode.rounds.course import Close, Open, Result
from anynode.rounds.records import Record
from anynode_contracts.errors import UserError
from anynode_verifier.credits import JudgedRound, judged_rounds

STEPS_PER_S = 10.0
INNER_STEPS = 20
STEADY, LATE = 6, 2
KILL_EVERY_S = 30.0
SEED = 1


@dataclass(frozen=True, slots=True)
class Round:
    """One closed round. Times are of the monotonic clock; ``samples`` were accepted and delivered."""

    opened_s: float
    closed_s: float
    samples: float
    forks: int

    @property
    def seconds(self) -> float:
        return self.closed_s - self.opened_s


@dataclass(frozen=True, slots=True)
class Part:
    """Whole rounds of one part of the run, and the samples per live-peer second in it."""

    rounds: list[Round]
    samples: float
    live_s: float
    with_start_s: float

    @property
    def goodput(self) -> float:
        return self.samples / self.live_s


def measure(deep: bool, say: Say) -> Report:
    """One swarm, first calm, then with churn. ``deep``: four times as long."""
    calm_s, churn_s = (240.0, 900.0) if deep else (80.0, 300.0)
    with ChurnSwarm(INNER_STEPS, STEPS_PER_S, STEADY) as swarm:
        names = [f"worker-{number}" for number in range(STEADY + LATE)]
        for name in names:
            swarm.make_wallet(name)
        say(f"starting {STEADY} workers")
        for name in names[:STEADY]:
            swarm.start_worker(name)
        _until_all_work(swarm, STEADY)
        say(f"calm: {calm_s:.0f} s")
        start_s = _until_close(swarm)
        end_s = time.monotonic() + calm_s
        swarm.until("the end of the calm part", lambda: time.monotonic() >= end_s, 2 * calm_s)
        turn_s = _until_close(swarm)
        kills, recover_s = _churn(swarm, names, turn_s + churn_s, say)
        stop_s = _until_close(swarm)
        stop_round = swarm.seen.closed
        swarm.until("the last verdict", lambda: swarm.seen.judged >= stop_round)
        rounds, lost = _rounds(swarm), _rounds_lost(swarm.records())
        calm, churned = _part(swarm, rounds, start_s, turn_s), _part(swarm, rounds, turn_s, stop_s)
        return _report(calm, churned, kills, recover_s, lost)


def _churn(swarm: ChurnSwarm, names: list[str], end_s: float, say: Say) -> tuple[list[float], float]:
    """Everything that goes wrong; gives when workers were killed, and how long the coordinator was away."""
    dice = random.Random(SEED)  # noqa: S311 (it has to be repeatable)
    late = names[STEADY:]
    kills: list[float] = []
    recover_s = 0.0
    number = 0
    begin_s = time.monotonic()
    while (due_s := begin_s + KILL_EVERY_S * number + dice.uniform(5.0, 15.0)) < end_s - KILL_EVERY_S / 2:
        swarm.until("the next kill", lambda due_s=due_s: time.monotonic() >= due_s, 2 * KILL_EVERY_S)  # type: ignore[misc]
        name = dice.choice([life.name for life in swarm.seen.lives if life.joined_s and life.ended_s is None])
        say(f"SIGKILL to {name} in phase {swarm.last_kind()!r}")
        swarm.kill_worker(name)
        kills.append(time.monotonic())
        swarm.start_worker(name)
        swarm.until("half of the interval", lambda due_s=due_s: time.monotonic() >= due_s + 12.0, KILL_EVERY_S)  # type: ignore[misc]
        swarm.until("everybody", lambda: all(life.joined_s or life.ended_s for life in swarm.seen.lives))
        if number == 3:
            say("SIGKILL to the coordinator")
            recover_s = _kill_coordinator(swarm)
        elif late:
            say(f"{late[0]} joins late")
            swarm.start_worker(late.pop(0))
        number += 1
    swarm.until("the end", lambda: time.monotonic() >= end_s, 2 * KILL_EVERY_S)
    return kills, recover_s


def _kill_coordinator(swarm: ChurnSwarm) -> float:
    """Seconds from its death to its next record."""
    swarm.look()
    written = len(swarm.seen.written_s)
    killed_s = time.monotonic()
    swarm.processes.kill(VERIFIER)
    swarm.start_verifier()
    swarm.until("a record of the restarted coordinator", lambda: len(swarm.seen.written_s) > written)
    return time.monotonic() - killed_s


def _until_all_work(swarm: ChurnSwarm, count: int) -> None:
    """Everybody is proven and has had a place in a whole round."""

    def all_work() -> bool:
        jobs = swarm.status()["jobs"]
        return bool(jobs) and sum(member["proven"] for member in jobs[0]["members"]) >= count

    swarm.until("work of everybody", all_work)
    for _ in range(2):
        _until_close(swarm)


def _until_close(swarm: ChurnSwarm) -> float:
    """Wait for a round to close; gives when it did."""
    before = swarm.seen.closed
    swarm.until("the close of a round", lambda: swarm.seen.closed > before)
    return _rounds(swarm)[-1].closed_s


def _rounds(swarm: ChurnSwarm) -> list[Round]:
    opened_s: dict[int, float] = {}
    found = []
    records = swarm.records()
    samples = {round_.open.round: _accepted_samples(round_) for round_ in judged_rounds(records)}
    for record, written_s in zip(records, swarm.seen.written_s, strict=True):
        if isinstance(record.body, Open):
            opened_s[record.body.round] = written_s
        elif isinstance(record.body, Close):
            number = record.body.round
            found.append(Round(opened_s[number], written_s, samples.get(number, 0.0), len(record.body.forks)))
    return found


def _accepted_samples(round_: JudgedRound) -> float:
    """What may be paid: accepted samples times the share of chunks that was delivered; a newcomer delivers none."""
    samples = {item.slot: item.samples for item in round_.seal.commitments}
    chunks = round_.result.chunks
    total = 0.0
    for judged in round_.verdict.judged:
        if judged.accepted and chunks:
            due = judged.slot in round_.assign.accepted
            share = sum(judged.slot in entry.senders for entry in chunks) / len(chunks) if due else 1.0
            total += samples[judged.slot] * share
    return total


def _rounds_lost(records: list[Record]) -> int:
    """Rounds that were opened but never closed (but for the last), and those that closed with nobody's work."""
    opened = [record.body.round for record in records if isinstance(record.body, Open)]
    closed = {record.body.round for record in records if isinstance(record.body, Close)}
    void = [record.body.round for record in records if isinstance(record.body, Result) and not record.body.chunks]
    if sorted(closed) != list(range(len(closed))):
        raise UserError(f"the closed rounds are not consecutive: {sorted(closed)}")
    return sum(number not in closed for number in opened[:-1]) + len(void)


def _part(swarm: ChurnSwarm, rounds: list[Round], start_s: float, end_s: float) -> Part:
    inside = [item for item in rounds if start_s < item.closed_s <= end_s]
    lives = swarm.seen.lives
    return Part(
        inside,
        sum(item.samples for item in inside),
        sum(life.overlap_s(life.joined_s, start_s, end_s) for life in lives),
        sum(life.overlap_s(life.started_s, start_s, end_s) for life in lives),
    )


def _report(calm: Part, churned: Part, kills: list[float], recover_s: float, lost: int) -> Report:
    usual_s = statistics.median(item.seconds for item in calm.rounds)
    hit = [item for item in churned.rounds if any(item.opened_s <= when <= item.closed_s for when in kills)]
    stalls = [item.seconds - usual_s for item in hit]
    ratio = churned.goodput / calm.goodput
    with_start = (churned.samples / churned.with_start_s) / (calm.samples / calm.with_start_s)
    return Report(
        keys={
            "state_forks": sum(item.forks for item in (*calm.rounds, *churned.rounds)),
            "rounds_lost": lost,
            "goodput_ratio": ratio,
            "stall_s": max(0.0, *stalls),
            "stall_median_s": statistics.median(stalls),
            "recover_s": recover_s,
            "goodput_ratio_with_start": with_start,
            "kills": len(kills),
            "round_s": usual_s,
            "samples_per_peer_s": churned.goodput,
        },
        goals=(
            Goal("state_forks", "==", 0),
            Goal("rounds_lost", "==", 0),
            Goal("goodput_ratio", ">=", 0.97),
            Goal("stall_s", "<=", 2.0),
        ),
        columns=("part", "rounds", "samples", "live-peer seconds", "samples per live-peer second", "median round, s"),
        rows=tuple(
            (
                name,
                len(part.rounds),
                round(part.samples),
                round(part.live_s),
                part.goodput,
                statistics.median(item.seconds for item in part.rounds),
            )
            for name, part in (("calm", calm), ("churn", churned))
        ),
        notes=(
            f"Paced to {STEPS_PER_S:g} steps a second and {INNER_STEPS} steps a round; {STEADY} workers, {LATE} more "
            "join late. stall_s: how much longer than the median calm round the slowest round with a kill took.",
        ),
    )
