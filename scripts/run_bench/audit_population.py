"""A simulated population of workers, honest and not, under the audit rates and draws that the verifier uses. Pure.

Money is counted in parts of one round's reward, time in rounds. A worker is paid for every round that it passes; the
first ``HELD_BACK_ROUNDS`` rewards are held back and are what it loses when it is found out. Work costs what `rates`
takes for the most that it can cost. An attack's gain is against doing the same rounds honestly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from anynode.rounds.judgements import Judged
from anynode.rounds.standing import EVERY_TIME_PPM, Standing, after_judgement
from anynode_verifier.rates import COLLUDING_PERCENT, COST_PERCENT, audit_rate
from anynode_verifier.sampling import audit_seed, draw

HELD_BACK_ROUNDS = 33
REWARD = 1_000_000
"""One round's reward, in some unit small enough that its parts are whole."""
COST = REWARD * COST_PERCENT // 100


@dataclass(frozen=True)
class Strategy:
    """An attack as its worker lives it. ``cheats(round, at_risk, ppm)``: whether it cheats in a round in which so much
    is held back from it and it is audited so often, both of which it knows. ``saved``: the part of a round's cost that
    this saves. ``exposure``: the chance that an audit exposes it. ``identities``: how many share the work.
    ``friends``: a share of its audits is in the hands of friends, who see nothing. ``rounds``: how long the job is.
    """

    name: str
    cheats: Callable[[int, int, int], bool]
    saved: float = 1.0
    exposure: float = 1.0
    identities: int = 1
    friends: bool = False
    rounds: int = 150


@dataclass(frozen=True)
class Life:
    """What became of one identity. ``expected``: the sum, over the rounds in which it cheated, of what that round's
    cheating gained it by the odds of that round (an unbiased estimate of ``gained`` with far less noise).
    """

    gained: float
    expected: float
    cheated: int
    caught_after: int | None
    audits: int
    rounds: int


def draws(seed: str, round_: int, slot: int, ppm: int) -> bool:
    """Whether the draw names the slot: secret and block hash are those of the round."""
    secret, block = (blake3(f"{seed} {what} {round_}".encode()).hexdigest() for what in ("secret", "block"))
    return bool(draw(audit_seed(secret, block), {slot: ppm}))


def live(strategy: Strategy, seed: str, floor_ppm: int, slot: int = 0) -> Life:
    """One identity from its first round until it is found out, or until the job ends and everything is released."""
    standing, at_risk, audits, cheated = Standing(), 0, 0, 0
    gained = expected = 0.0
    held_back_limit = HELD_BACK_ROUNDS * REWARD
    for round_ in range(strategy.rounds):
        ppm = audit_rate(standing, REWARD, at_risk, floor_ppm).ppm
        cheats = strategy.cheats(round_, at_risk, ppm)
        drawn = draws(seed, round_, slot, ppm)
        audits += drawn
        if cheats:
            cheated += 1
            saved = strategy.saved * COST
            odds = ppm / EVERY_TIME_PPM * strategy.exposure * (1 - COLLUDING_PERCENT / 100 * strategy.friends)
            expected += saved - odds * (at_risk + REWARD)
            gained += saved
            exposed = drawn and chance(seed, round_, "exposed") < strategy.exposure
            if exposed and not (strategy.friends and chance(seed, round_, "friend") < COLLUDING_PERCENT / 100):
                return Life(gained - at_risk - REWARD, expected, cheated, cheated, audits, round_ + 1)
        outcome = Judged(slot, "", "accepted", "exact" if drawn else "none", "")
        standing = after_judgement(standing, outcome)
        at_risk = min(held_back_limit, at_risk + REWARD)
    return Life(gained, expected, cheated, None, audits, strategy.rounds)


def chance(seed: str, round_: int, what: str) -> float:
    """A number in [0, 1) that the seed fixes."""
    return int.from_bytes(blake3(f"{seed} {what} {round_}".encode()).digest()[:8], "little") / 2**64


FULL = HELD_BACK_ROUNDS * REWARD
LOW_PPM = 28_500
"""Just above the rate of who has everything held back that can be, which is the lowest."""
SETTLED = 900
"""After so many rounds an honest worker is audited at the lowest rate: it has been through 35 audits by then."""

STRATEGIES = (
    Strategy("noise from the first round on", lambda *_: True),
    Strategy("skips half of every round", lambda *_: True, saved=0.5),
    Strategy("skips 1 of 32 micro-batches in every round", lambda *_: True, saved=1 / 32),
    Strategy("honest for 10 rounds, then nothing but noise", lambda round_, *_: round_ >= 10),
    Strategy("honest until all that can be is held back, then noise", lambda _, risk, __: risk >= FULL),
    Strategy("cheats once its rate is under a half", lambda _, __, ppm: ppm < 500_000),
    Strategy("cheats in every tenth round", lambda round_, *_: round_ % 10 == 9),
    Strategy("cheats in its very last round", lambda round_, *_: round_ == 149),
    Strategy("one worker as eight identities, then noise", lambda round_, *_: round_ >= 10, identities=8),
    Strategy("noise after 10 rounds, with friends among the auditors", lambda round_, *_: round_ >= 10, friends=True),
    Strategy("honest for 900 rounds, then noise", lambda round_, *_: round_ >= SETTLED, rounds=SETTLED + 100),
    Strategy("cheats only at the lowest rate", lambda _, __, ppm: ppm < LOW_PPM, rounds=SETTLED + 100),
    Strategy("the same with friends", lambda _, __, ppm: ppm < LOW_PPM, friends=True, rounds=SETTLED + 100),
    Strategy(
        "only at the lowest rate, within a tolerance: skips 1 of 32 micro-batches",
        lambda _, __, ppm: ppm < LOW_PPM,
        saved=1 / 32,
        exposure=0.8,
        rounds=SETTLED + 100,
    ),
    Strategy(
        "only at the lowest rate, within a tolerance: skips 1 segment of 4, of which 2 are drawn",
        lambda _, __, ppm: ppm < LOW_PPM,
        saved=1 / 4,
        exposure=1 / 2,
        rounds=SETTLED + 100,
    ),
)


@dataclass(frozen=True)
class Gain:
    """An attack's mean gain over honest work, in rewards for each round in which it cheated, and how it ended."""

    strategy: Strategy
    expected: float
    measured: float
    caught: float
    cheated: float


def gain(strategy: Strategy, lives: int, floor_ppm: int) -> Gain:
    """Over so many lives."""
    found = [
        live(strategy, f"{strategy.name} {life}", floor_ppm, slot)
        for life in range(lives)
        for slot in range(strategy.identities)
    ]
    cheated = sum(life.cheated for life in found)
    return Gain(
        strategy,
        expected=sum(life.expected for life in found) / cheated / REWARD,
        measured=sum(life.gained for life in found) / cheated / REWARD,
        caught=sum(life.caught_after is not None for life in found) / len(found),
        cheated=cheated / len(found),
    )


@dataclass(frozen=True)
class Catch:
    """At one rate and exposure: by how many cheated rounds which part had been found out, measured and by the model."""

    rate: float
    exposure: float
    measured: tuple[float, ...]
    model: tuple[float, ...]

    @property
    def error(self) -> float:
        return max(abs(one - other) for one, other in zip(self.measured, self.model, strict=True))


def catch(rate: float, exposure: float, lives: int, rounds: int) -> Catch:
    """Workers that cheat in every round under one rate, each draw with its own secret and block hash."""
    ppm = round(rate * EVERY_TIME_PPM)
    ends = [0] * (rounds + 1)
    for life in range(lives):
        seed = f"catch {rate} {exposure} {life}"
        found = (n for n in range(rounds) if draws(seed, n, 0, ppm) and chance(seed, n, "exposed") < exposure)
        ends[next(found, rounds)] += 1
    measured, sofar = [], 0
    for count in ends[:-1]:
        sofar += count
        measured.append(sofar / lives)
    model = tuple(1 - (1 - rate * exposure) ** n for n in range(1, rounds + 1))
    return Catch(rate, exposure, tuple(measured), model)


def settled_overhead(floor_ppm: int, rounds: int) -> float:
    """The part of its own work that is done again at the lowest rate: each audit replays one round."""
    ppm = audit_rate(Standing(proven=True, audits=36), REWARD, FULL, floor_ppm).ppm
    return sum(draws("settled", round_, 0, ppm) for round_ in range(rounds)) / rounds
