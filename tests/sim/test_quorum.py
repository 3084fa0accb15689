"""Seeded schedules over the agreement of verifiers: loss, delay, partitions, crashes, the dead and the lying.

A part of them runs every time, 20,000 with ``--deep``. One alone: ``pytest tests/sim/test_quorum.py --seed 123``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from quorum_world import BAD, FALSE, RECORD_DUE_S, VICES, QuorumWorld, Weather

from anynode.rounds import voting
from anynode.rounds.course import Begin

SCHEDULES, SCHEDULES_DEEP = 100, 20_000
LIMIT_S = 4_000.0


def weather(seed: int) -> Weather:
    dice = random.Random(f"weather {seed}")
    return Weather(
        loss=dice.choice((0.0, 0.1, 0.4)),
        duplicate=dice.choice((0.0, 0.3)),
        delay_s_max=dice.choice((0.02, 1.0, 5.0)),
        crashes=dice.choice((0, 0, 2, 6)),
        partitions=dice.choice((0, 0, 2)),
        mute=dice.choice((0.0, 0.0, 0.7)),
        until_s=dice.choice((5.0, 40.0)),
    )


def schedule(seed: int) -> QuorumWorld:
    """As many liars as the quorum bears, and as many dead as leave a quorum of honest ones."""
    dice = random.Random(f"cast {seed}")
    count = dice.choice((1, 2, 3, 4, 4, 4, 4, 5, 7))
    size = dice.randint(count // 2 + 1, count)
    liars = max(dice.randint(0, min(2 * size - count - 1, count - size)) for _ in range(2))
    dead = dice.randint(0, count - size - liars)
    vices = [dice.choice(("two records", *VICES)) for _ in range(liars)] + [""] * (count - liars)
    dice.shuffle(vices)
    return QuorumWorld(seed, vices, weather(seed), size=size, dead=dead)


def run_schedule(seed: int) -> QuorumWorld:
    world = schedule(seed)
    world.run(LIMIT_S)
    check_safety(world)
    assert world.finished(), f"they got no further by {world.now:.0f} s; replay with --seed {seed}"
    return world


def check_safety(world: QuorumWorld) -> None:
    """No two different certified records at one height, anywhere; nothing that does not follow; nobody accused."""
    again = f"; replay with --seed {world.seed}"
    for height, hashes in world.certified.items():
        assert len(hashes) == 1, f"two records are certified at height {height}{again}"
    longest = max((node.chain for node in world.nodes.values()), key=len)
    for node in world.nodes.values():
        assert [s.record.hash for s in node.chain] == [s.record.hash for s in longest[: len(node.chain)]], again
        views = [signed.view for signed in node.chain]
        assert views == sorted(views), f"the views of a chain go back{again}"
        assert not node.state.excluded & {other.name for other in world.nodes.values() if other.honest}, again
    for signed in longest:
        assert isinstance(signed.record.body, Begin), f"a round was sealed that nobody can judge{again}"
        assert signed.record.body.protocol != BAD, f"what does not follow was certified{again}"


def test_schedules(seeds: Sequence[int]) -> None:
    for seed in seeds:
        run_schedule(seed)


def test_schedules_reach_what_they_claim() -> None:
    """They do contain moved duties, restarts, proven liars, certificates with proofs, and every kind of liar."""
    worlds = [run_schedule(seed) for seed in range(200)]
    chains = [node.chain for world in worlds for node in world.nodes.values()]
    assert any(signed.view for chain in chains for signed in chain), "the duty never moved"
    assert any(signed.proofs for chain in chains for signed in chain), "no certificate ever needed a proof"
    assert any(node.life for world in worlds for node in world.nodes.values()), "nobody ever crashed"
    assert any(node.state.excluded for world in worlds for node in world.nodes.values()), "nobody was proven to lie"
    assert {node.vice for world in worlds for node in world.nodes.values()} >= set(VICES)


def test_of_four_one_lies_and_one_is_dead_and_the_two_others_go_on() -> None:
    """Alone they are not enough; but whoever gives them two records proves itself a liar, and two of three are."""
    for seed in range(40):
        world = QuorumWorld(seed, ["", "two records", "", ""], Weather(), dead=1, goal=12)
        world.run(LIMIT_S)
        check_safety(world)
        assert world.finished(), f"they got no further by {world.now:.0f} s"
        for node in world.living:
            assert node.state.excluded == {"v1"}, "both know, and can show, who lied"
            last = node.chain[-1]
            assert len(last.signatures) == 2
            assert [proof.signer for proof in last.proofs] == ["v1"]


def test_a_holder_that_is_there_and_does_nothing_loses_its_duty() -> None:
    """Each of the four in turn is the one, and the first on duty among them."""
    for idle in range(4):
        world = QuorumWorld(idle, ["idle" if place == idle else "" for place in range(4)], Weather(), goal=12)
        world.run(LIMIT_S)
        check_safety(world)
        assert world.finished(), f"they got no further by {world.now:.0f} s"


def test_a_liar_does_not_keep_a_dead_holder_alive() -> None:
    """It says again where the dead one stood; only who is heard itself is there."""
    for seed in range(20):
        world = QuorumWorld(seed, ["", "", "replays", ""], Weather(), goal=1_000)
        world.run(2.0)
        holder = next(node for node in world.living if voting.on_duty(node.state))
        world.kill(holder)
        world.goal, view = max(len(node.chain) for node in world.living) + 3, holder.state.view
        world.run(world.now + RECORD_DUE_S - 1.0)
        assert all(node.state.view > view for node in world.living), "its silence alone ends its duty"
        world.run(LIMIT_S)
        check_safety(world)
        assert world.finished(), f"they got no further by {world.now:.0f} s; replay with seed {seed}"


def test_a_seal_that_nobody_could_judge_is_not_certified() -> None:
    for seed in range(5):
        world = QuorumWorld(seed, ["", "seals far off", "", ""], Weather(), goal=6)
        world.run(LIMIT_S)
        check_safety(world)
        assert world.finished(), f"they got no further by {world.now:.0f} s"
        assert any(signed.view for signed in world.living[0].chain), "the liar was on duty first"


def test_a_false_acceptance_is_stopped_where_enough_of_the_others_repeat_it() -> None:
    """By two of three, which happens three times in four; and the duty moves on to one that tells the truth."""
    seeds, passed = 150, 0
    for seed in range(seeds):
        world = QuorumWorld(seed, ["", "accepts falsely", "", ""], Weather(), goal=1)
        world.run(LIMIT_S)
        check_safety(world)
        assert world.finished(), f"they got no further by {world.now:.0f} s; replay with seed {seed}"
        first = world.living[0].chain[0].record.body
        repeating = sum(world.repeats(node, 0) for node in world.living)
        assert isinstance(first, Begin)
        assert (first.protocol == FALSE) == (repeating < 2), f"{repeating} have repeated it; replay with seed {seed}"
        passed += first.protocol == FALSE
    assert 0.16 < passed / seeds < 0.36, "26 % of them pass"


def test_a_single_verifier_certifies_at_once() -> None:
    world = QuorumWorld(1, [""], Weather(), goal=20)
    world.run(LIMIT_S)
    check_safety(world)
    assert world.finished()
    assert world.now <= 1.0, "nothing is waited for but its first tick"


def test_what_only_one_knows_to_be_certified_is_not_replaced(deep: bool) -> None:
    """It dies before it tells anybody, and a liar comes on duty that proposes another record: the locks hold."""
    troubled = Weather(loss=0.2, delay_s_max=0.5, crashes=1, mute=0.8, until_s=60.0)
    for seed in range(200 if deep else 30):
        world = QuorumWorld(seed, ["", "hides", "", ""], troubled, goal=12)
        world.run(300.0)
        check_safety(world)
