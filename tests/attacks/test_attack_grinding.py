"""Identity grinding for a good shard."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from world_cast import JOB, digest

from anynode.rounds.deal import deal, work_seed
from anynode.rounds.newcomers import draw_newcomers

ATTACK = Attack(
    "identity grinding for a good shard",
    "An attacker makes keys until one would get the shard, or the place, that it wants.",
    "prevented",
)
ROUNDS, KEYS, MEMBERS, SAMPLES = 400, 60, 8, 16


def slot_of(key: str, others: list[str]) -> int:
    """Slots go by the order of nodes, which an attacker does choose."""
    return sorted([*others, key]).index(key)


def shard_of(key: str, others: list[str], beacon: str, round_: int) -> int:
    """Which part of the pool a node gets: 0 is the one that the attacker is after."""
    seed = work_seed(JOB, round_, beacon)
    ranges = deal(((0, MEMBERS * SAMPLES),), [SAMPLES] * MEMBERS, seed)
    return ranges[slot_of(key, others)][0][0] // SAMPLES


def test_what_is_ground_out_for_one_beacon_is_worth_nothing_at_the_next(expect: Expect) -> None:
    """The best key for the newest known block gets the wanted shard no more often than any other."""
    others = [digest("other", n) for n in range(MEMBERS - 1)]
    keys = [digest("ground", n) for n in range(KEYS)]
    ground = got = drawn = 0
    for round_ in range(ROUNDS):
        known, beacon = digest("block", round_), digest("block", round_ + 1)
        wanted = [key for key in keys if shard_of(key, others, known, round_) == 0]
        ground += bool(wanted)
        got += bool(wanted) and shard_of(wanted[0], others, beacon, round_) == 0
        first = draw_newcomers(keys, (), 1, known)[0]
        drawn += draw_newcomers(keys, (), 1, beacon)[0] == first
    assert ground > 0.5 * ROUNDS, "for a block that is known it can choose"
    assert abs(got / ground - 1 / MEMBERS) < 0.06, f"{got} of {ground}"
    assert drawn / ROUNDS < 0.06, f"{drawn} of {ROUNDS}"
    expect(Finding("prevented", f"the wanted shard in {got} of {ground} rounds, by chance 1 in {MEMBERS}"))
