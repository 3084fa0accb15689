"""Auditors in the simulated population: what laziness and lies gain them under the share of known tasks. Pure.

Money is counted in parts of one round's reward. An audit costs what a round's work costs at most, and is paid nothing
here, so that what an auditor gains is what it saves; what it loses is the pay that is held back from it. Everything it
could have had from a worker, it has: only the states behind a trace it lacks. Lies gain nothing by themselves: a false
accusation costs the work that it saves, as laziness does, and is always compared; a friend that vouches for a cheat
gains what the cheat would have lost, where the task is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from audit_population import COST, HELD_BACK_ROUNDS, REWARD, Gain, Life, Strategy, chance

from anynode.rounds.standing import EVERY_TIME_PPM, Standing
from anynode_verifier.known_tasks import known_share_ppm
from anynode_verifier.rates import audit_rate


@dataclass(frozen=True)
class AuditorKind:
    """An auditor as it lives. ``lies(share)``: whether it does not do a task of which it knows the share of known ones.
    ``compared``: its false answers are always compared. So many rounds' pay is held back from it, and from the workers
    that it audits.
    """

    name: str
    lies: Callable[[float], bool]
    compared: bool = False
    held_rounds: int = HELD_BACK_ROUNDS
    worker_held_rounds: int = HELD_BACK_ROUNDS


KINDS = (
    AuditorKind("an auditor copies every trace, with all held back", lambda _: True),
    AuditorKind("the same with three rounds' pay held back", lambda _: True, held_rounds=3),
    AuditorKind("the same with one round's pay held back", lambda _: True, held_rounds=1),
    AuditorKind("an auditor copies the traces of newcomers", lambda _: True, worker_held_rounds=0),
    AuditorKind("an auditor copies where few tasks are known", lambda share: share < 0.1, worker_held_rounds=1),
    AuditorKind("an auditor accuses everybody", lambda _: True, compared=True),
)


def auditor_gain(kind: AuditorKind, lives: int, tasks: int = 100) -> Gain:
    """Mean gain over honest audits, in rewards for each task not done."""
    found = [_live(kind, f"{kind.name} {life}", tasks) for life in range(lives)]
    lied = sum(life.cheated for life in found)
    return Gain(
        Strategy(kind.name, lambda *_: True),
        expected=sum(life.expected for life in found) / lied / REWARD,
        measured=sum(life.gained for life in found) / lied / REWARD,
        caught=sum(life.caught_after is not None for life in found) / len(found),
        cheated=lied / len(found),
    )


def _live(kind: AuditorKind, seed: str, tasks: int) -> Life:
    at_risk = kind.held_rounds * REWARD
    share = known_share_ppm(REWARD, at_risk, kind.worker_held_rounds * REWARD) / EVERY_TIME_PPM
    odds = 1.0 if kind.compared else share
    gained = expected = 0.0
    lied = 0
    for task in range(tasks):
        if not kind.lies(share):
            break
        lied += 1
        gained, expected = gained + COST, expected + COST - odds * at_risk
        if chance(seed, task, "known") < odds:
            return Life(gained - at_risk, expected, lied, lied, 0, tasks)
    return Life(gained, expected, lied, None, 0, tasks)


def vouching_gain(friends: float, at_risk_rounds: int = HELD_BACK_ROUNDS) -> float:
    """What a round of cheating gains a worker whose friends are this part of the owners of auditors, in rewards: what
    it saves, less what it and its friend lose by the odds, when all that is drawn is given to auditors.
    """
    at_risk = at_risk_rounds * REWARD
    rate = audit_rate(Standing(proven=True, audits=10**6), REWARD, at_risk, 0).ppm / EVERY_TIME_PPM
    known = known_share_ppm(REWARD, HELD_BACK_ROUNDS * REWARD, at_risk) / EVERY_TIME_PPM
    vouched, fallen = friends * (1 - known), friends * known
    lost = (1 - vouched) * (at_risk + REWARD) + fallen * HELD_BACK_ROUNDS * REWARD
    return (COST - rate * lost) / REWARD
