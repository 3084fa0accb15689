"""Forward corrections among crashes, loss and partitions: everybody ends on the same state, and no sample is lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from correcting_world import CorrectingWorld, Wish
from world import RULES
from world_cast import Role, Weather

from anynode.rounds.corrections import History, complaint
from anynode.rounds.course import Finish, Open
from anynode.rounds.judgements import Correct

SCHEDULES, SCHEDULES_DEEP = 50, 2_000
LIMIT_S = 3_000.0
LONG = replace(RULES, rounds=8)


def run_world(seed: int) -> CorrectingWorld:
    dice = random.Random(f"corrections {seed}")
    calm = seed % 4 == 0
    weather = Weather(
        loss=0.0 if calm else dice.choice((0.0, 0.1, 0.3)),
        duplicate=0.0 if calm else 0.1,
        delay_s_max=dice.choice((0.05, 1.0)),
        failure=0.0 if calm else 0.1,
        crashes=0 if calm else dice.randint(0, 5),
        partitions=0 if calm else dice.choice((0, 1)),
        blackouts=0 if calm else dice.choice((0, 0, 1)),
        until_s=60.0,
    )
    wishes = [Wish(dice.uniform(5.0, 60.0), 1, dice.choice((1, 2, 3)))]
    if dice.random() < 0.5:
        wishes.append(Wish(dice.uniform(5.0, 90.0), 2))
    world = CorrectingWorld(seed, [Role(), *[Role()] * dice.randint(2, 3)], weather, wishes, LONG)
    world.run(LIMIT_S)
    check(world)
    return world


def check(world: CorrectingWorld) -> None:
    again = f"; seed {world.seed}"
    assert world.finished(), f"the job did not finish{again}"
    history = History()
    gone: set[str] = set()
    for record in world.records:
        body = record.body
        if isinstance(body, Correct):
            assert complaint(history, body) == "", f"an auditor would refuse a correction{again}"
            gone |= {item.node for item in body.excised}
        elif isinstance(body, Open):
            assert not gone & {place.node for place in body.members}, f"who was taken out is back{again}"
            place = history.places[history.number]
            assert (body.round, body.state_root) == (history.number, place.state_root), f"another state opens{again}"
        elif isinstance(body, Finish):
            assert (body.rounds, body.state_root) == (history.number, history.places[history.number].state_root), again
        history.take(record)
    last = history.places[history.number]
    for peer in world.members:
        assert peer.disk == (history.number, last.state_root), f"{peer.name} holds another state{again}"
    check_samples(history, again)
    assert not world.faults, f"{world.faults}{again}"


def check_samples(history: History, again: str) -> None:
    """Each position counts as trained once or lies in the pool, what was taken out with its sender included."""
    trained: set[int] = set()
    for past in history.rounds.values():
        samples = {item.slot: item.samples for item in past.seal.commitments}
        for slot in past.included:
            dealt = [p for start, end in past.open.ranges[slot] for p in range(start, end)]
            positions = set(dealt[: samples[slot]])
            assert not positions & trained, f"a sample counts twice{again}"
            trained |= positions
    last = history.places[history.number]
    pool = {p for start, end in last.returned for p in range(start, end)}
    assert not pool & trained, f"a trained sample lies in the pool{again}"
    assert pool | trained == set(range(last.cursor)), f"a sample was lost{again}"


def test_members_end_on_the_same_state_after_corrections(seeds: Sequence[int]) -> None:
    for seed in seeds:
        run_world(seed)


def test_the_schedules_hold_what_they_claim() -> None:
    worlds = [run_world(seed) for seed in range(40)]
    corrections = [body for world in worlds for body in world.corrections]
    assert len(corrections) >= 30
    assert any(len(body.rounds) > 1 for body in corrections), "several rounds in one correction"
    assert any(len(world.corrections) > 1 for world in worlds), "one correction after another"
    assert any(world.coordinator_was_down and world.corrections for world in worlds), "the coordinator never crashed"


def test_a_round_that_loses_its_only_sender_is_void() -> None:
    """The first member comes late, so that the other has rounds to itself."""
    roles = [Role(comes_at_s=40.0), Role()]
    world = CorrectingWorld(3, roles, Weather(), [Wish(45.0, 1, rounds=2)], LONG)
    world.run(LIMIT_S)
    check(world)
    (body,) = world.corrections
    assert any(not item.results and item.steps == 0 for item in body.rounds)
