"""Seeded schedules over the round cores: loss, delay, partitions, crashes, comings and goings, slow and lying members.

A part of them runs every time, 20,000 with ``--deep``. One alone: ``pytest tests/sim/test_schedules.py --seed 123``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from world import RULES, World, closes, opens, results
from world_cast import VICES, Role, Weather, average

from anynode.rounds.course import Assign, Close, Open, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.quotas import TRIED_AGAIN_ROUNDS, quota_max
from anynode.rounds.reductions import rejected_reducers, unreadable_nodes

FALSE_REDUCERS = ("omits", "adds wrongly", "garbage", "poisons", "doubles")
SCHEDULES, SCHEDULES_DEEP = 250, 20_000
LIMIT_S = 3_000.0
ROUNDS = 3


def weather(seed: int) -> Weather:
    """The network of a schedule."""
    dice = random.Random(f"weather {seed}")
    return Weather(
        loss=dice.choice((0.0, 0.05, 0.3)),
        duplicate=dice.choice((0.0, 0.1, 0.5)),
        delay_s_max=dice.choice((0.01, 0.5, 3.0)),
        failure=dice.choice((0.0, 0.1)),
        crashes=dice.randint(0, 5),
        partitions=dice.choice((0, 0, 1, 3)),
        blackouts=dice.choice((0, 0, 0, 1)),
        until_s=dice.choice((20.0, 60.0)),
    )


def cast(seed: int) -> list[Role]:
    """The members of a schedule. The first is honest, can be reached and stays."""
    dice = random.Random(f"cast {seed}")
    roles = [Role()]
    roles += [
        Role(
            slow=dice.choice((1.0, 1.0, 1.0, 10.0)),
            reduces=dice.random() < 0.8,
            comes_at_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(1.0, 40.0))),
            leaves_at_s=dice.choice((None, None, None, dice.uniform(5.0, 60.0))),
        )
        for _ in range(dice.randint(0, 4))
    ]
    roles += [Role(cheats=True)] * dice.choice((0, 0, 1))
    roles += [Role(unclear=True)] * dice.choice((0, 0, 0, 1))
    roles += [Role(vice=dice.choice(VICES)) for _ in range(dice.choice((0, 0, 1, 2)))]
    return roles


def run_schedule(seed: int) -> World:
    world = World(seed, cast(seed), weather(seed))
    world.run(LIMIT_S)
    check(world)
    return world


def check(world: World) -> None:
    again = f"; replay with --seed {world.seed}"
    honest = {peer.name for peer in world.members if peer.role.honest}
    for round_, roots in world.applied.items():
        assert len(roots) == 1, f"two honest peers held different states after round {round_}{again}"
    assert world.finished(), f"the job did not finish by {world.now:.0f} s{again}"
    assert [close.round for close in closes(world)] == list(range(world.rules.rounds)), f"a round is missing{again}"
    for close in closes(world):
        assert {close.state_root} == world.applied[close.round], f"the record names another state{again}"
        assert not honest & set(close.forks), f"an honest report counts as a fork{again}"
    assert not world.faults, f"{world.faults}{again}"
    assert not world.left_out, f"an honest coordinator left somebody out{again}"
    check_samples(world, again)
    check_quotas(world, again)
    check_credits(world, again)
    check_cheats(world, again)
    check_time(world, again)


def check_samples(world: World, again: str) -> None:
    """Each position is trained once or lies in the pool: none is lost, none is dealt twice."""
    opened, seals = opens(world), {r.body.round: r.body for r in world.records if isinstance(r.body, Seal)}
    trained: set[int] = set()
    for result in results(world):
        samples = {item.slot: item.samples for item in seals[result.round].commitments}
        included = {slot for entry in result.chunks for slot in entry.senders}
        for slot in included:
            dealt = [p for start, end in opened[result.round].ranges[slot] for p in range(start, end)]
            positions = set(dealt[: samples[slot]])
            assert not positions & trained, f"a sample was trained twice{again}"
            trained |= positions
        pool = {p for start, end in result.returned for p in range(start, end)}
        assert not pool & trained, f"a trained sample lies in the pool{again}"
        assert pool | trained == set(range(result.cursor)), f"a sample was lost{again}"


def check_quotas(world: World, again: str) -> None:
    opened = opens(world)
    for body in opened.values():
        for place in body.members:
            most = quota_max(body.inner_steps * world.rules.parts)
            assert 1 <= place.quota_steps <= most, f"a quota is out of bounds{again}"
    for record in world.records:
        if isinstance(record.body, Seal):
            places = opened[record.body.round].members
            assert all(0 < item.steps <= places[item.slot].quota_steps for item in record.body.commitments), again


def check_credits(world: World, again: str) -> None:
    """Every commitment is judged once, so nobody is paid twice, and nothing committed goes without its verdict."""
    seals = {r.body.round: r.body for r in world.records if isinstance(r.body, Seal)}
    verdicts = [record.body for record in world.records if isinstance(record.body, Verdict)]
    assert sorted(verdict.round for verdict in verdicts) == list(range(world.rules.rounds)), f"a verdict{again}"
    for verdict in verdicts:
        committed = [(item.slot, item.node) for item in seals[verdict.round].commitments]
        assert [(item.slot, item.node) for item in verdict.judged] == committed, f"judged otherwise{again}"
        assert len({node for _, node in committed}) == len(committed), f"a node is credited twice{again}"


def check_cheats(world: World, again: str) -> None:
    cheats = {peer.name for peer in world.members if peer.cheats}
    opened = opens(world)
    for result in results(world):
        places = opened[result.round].members
        nodes = {places[slot].node for entry in result.chunks for slot in entry.senders}
        assert not nodes & cheats, f"an unproven cheat's update had weight{again}"
        assert all(places[entry.reducer].reduces for entry in result.chunks), f"a client-only member reduced{again}"
    verdicts = [record.body for record in world.records if isinstance(record.body, Verdict)]
    rejected = {item.node for verdict in verdicts for item in verdict.judged if item.rejected}
    blamed = {node for verdict in verdicts for node in rejected_reducers(verdict)}
    assigns = [record.body for record in world.records if isinstance(record.body, Assign)]
    garbage = {node for body in assigns for node in unreadable_nodes(opened[body.round], body)}
    assert garbage <= {peer.name for peer in world.members if peer.role.vice == "garbage"}, f"garbage{again}"
    blamed |= garbage
    liars = {peer.name for peer in world.members if peer.role.vice in FALSE_REDUCERS}
    assert blamed <= liars, f"an honest reducer was rejected{again}"
    for body in assigns:
        out = {item.reducer for item in body.unreadable}
        assert out.isdisjoint(item.slot for item in body.reducers), f"who has signed garbage reduces{again}"
    seals = {r.body.round: r.body for r in world.records if isinstance(r.body, Seal)}
    for result in results(world):
        roots = {item.slot: item.update_root for item in seals[result.round].commitments}
        for entry in result.chunks:
            right = entry.result == average(entry.chunk, [roots[slot] for slot in entry.senders])
            vice = world.peers[opened[result.round].members[entry.reducer].node].role.vice
            assert right or vice != "garbage", f"garbage is recorded{again}"
    left_out = {peer.name for peer in world.members if peer.role.vice == "omits"} & blamed
    assert not left_out or any(verdict.claims for verdict in verdicts), f"who left out a sender adds rightly{again}"
    assert rejected <= cheats | blamed, f"honest work was rejected{again}"


def verdicts(world: World) -> list[Verdict]:
    return [record.body for record in world.records if isinstance(record.body, Verdict)]


def check_time(world: World, again: str) -> None:
    """However slow, silent or hostile some are, a round lasts no longer than its deadlines say."""
    if world.coordinator_was_down:
        return
    rules = world.rules
    longest = rules.work_s + rules.exchange_s * (rules.attempts_max + 1) + 30.0  # what replays and blocks take
    opened_at: dict[int, float] = {}
    for record, at in zip(world.records, world.recorded_at, strict=True):
        if isinstance(record.body, Open):
            opened_at[record.body.round] = at
        if isinstance(record.body, Close):
            took = at - opened_at[record.body.round]
            assert took <= longest, f"round {record.body.round} took {took:.0f} s{again}"


def test_schedules(seeds: Sequence[int]) -> None:
    for seed in seeds:
        run_schedule(seed)


def test_schedules_reach_what_they_claim() -> None:
    """They do contain coordinator crashes, void rounds, replaced reducers, witnesses at work, and each kind of liar."""
    worlds = [run_schedule(seed) for seed in range(80)]
    assert any(any(not result.chunks for result in results(world)) for world in worlds), "no void round"
    assert any(any(entry.attempt > 0 for result in results(world) for entry in result.chunks) for world in worlds), (
        "no reducer was ever replaced"
    )
    assert any(world.coordinator_was_down for world in worlds), "the coordinator never crashed"
    assert any(world.witnessed for world in worlds), "no witness ever handed anything on"
    claims = [body for world in worlds for body in verdicts(world) if body.claims]
    assert any(body.reductions for body in claims), "no omitted sender ever proved that it had delivered"
    assert any(body.reductions for world in worlds for body in verdicts(world) if not body.claims), "no wrong sum"
    assert {peer.role.vice for world in worlds for peer in world.members} >= set(VICES)
    assert any(peer.left for world in worlds for peer in world.members), "nobody ever left"


def test_a_round_with_one_live_member_closes() -> None:
    world = World(1, [Role()], Weather(), replace(RULES, rounds=2))
    world.run(LIMIT_S)
    check(world)
    assert all(result.chunks for result in results(world))


def test_a_world_is_a_function_of_its_seed() -> None:
    first, second = run_schedule(17), run_schedule(17)
    assert [record.hash for record in first.records] == [record.hash for record in second.records]


# ---------------------------------------------------------------- slow members


def test_a_member_ten_times_slower_holds_nobody_up_and_earns_its_share() -> None:
    """Its quota follows its speed: it commits in every round, and rounds last as long as without it."""
    rules = replace(RULES, rounds=8, inner_steps_min=20, inner_steps_max=20, newcomer_steps=5, work_s=120)
    rules = replace(rules, members_min=4)
    durations = []
    for slow in (1.0, 10.0):
        world = World(5, [Role(), Role(), Role(), Role(slow=slow)], Weather(), rules)
        world.run(LIMIT_S)
        check(world)
        durations.append(length_s(world, 3))
        name = world.members[-1].name
        for body in opens(world).values():
            (place,) = [place for place in body.members if place.node == name]
            seal = next(r.body for r in world.records if isinstance(r.body, Seal) and r.body.round == body.round)
            assert place.slot in {item.slot for item in seal.commitments}, "it committed"
            included = {slot for entry in results(world)[body.round].chunks for slot in entry.senders}
            assert place.slot in included
        if slow > 1:
            quotas = [[place.quota_steps for place in body.members] for body in opens(world).values()]
            assert quotas[-1][3] <= 4, quotas
            assert min(quotas[-1][:3]) >= 10, quotas
    assert durations[1] <= 1.3 * durations[0], "the others do not wait for it"


GRADIENTS = replace(RULES, rounds=8, inner_steps_min=1, inner_steps_max=1, publishes_moments=False, members_min=4)


def test_in_gradient_mode_a_slow_members_share_is_a_part_of_a_batch() -> None:
    """A batch is 16 shares of half a second; the slow one takes five seconds for each."""
    rules = replace(GRADIENTS, parts=16, newcomer_steps=16, work_s=120, alive_s=120.0)
    worlds = [World(5, [Role(), Role(), Role(), Role(slow=slow)], Weather(), rules) for slow in (1.0, 10.0)]
    for world in worlds:
        world.run(LIMIT_S)
        check(world)
    assert length_s(worlds[1], 3) <= 1.3 * length_s(worlds[0], 3), "the others do not wait for it"
    name = worlds[1].members[-1].name
    for body in list(opens(worlds[1]).values())[1:]:
        (place,) = [place for place in body.members if place.node == name]
        included = {slot for entry in results(worlds[1])[body.round].chunks for slot in entry.senders}
        assert 1 <= place.quota_steps <= 4 and place.slot in included, f"round {body.round}"


def test_who_is_too_slow_for_one_share_waits_outside_and_is_tried_again() -> None:
    """A batch is one share, and takes the slow one a hundred times as long as the others."""
    rules = replace(GRADIENTS, rounds=TRIED_AGAIN_ROUNDS + 4, newcomer_steps=1, work_s=120, alive_s=120.0)
    world = World(5, [Role(), Role(), Role(), Role(slow=100.0)], Weather(), rules)
    world.run(LIMIT_S)
    check(world)
    name = world.members[-1].name
    places = [number for number, body in opens(world).items() if name in {place.node for place in body.members}]
    *shown, last, again = places
    assert len(shown) <= 1 and again == last + TRIED_AGAIN_ROUNDS, "its first rounds show how slow it is"
    assert [result.round for result in results(world) if not result.chunks] == []


def length_s(world: World, first_round: int) -> float:
    """From the opening of a round to the end of the job."""
    place = next(i for i, r in enumerate(world.records) if isinstance(r.body, Open) and r.body.round == first_round)
    end = max(i for i, r in enumerate(world.records) if isinstance(r.body, Close))
    return world.recorded_at[end] - world.recorded_at[place]


def test_the_length_of_rounds_follows_the_line() -> None:
    """With ``inner_steps = "auto"`` a round lasts until all but computing is 5 % of it; the job ends with its steps."""
    auto = replace(RULES, rounds=50, inner_steps_min=5, inner_steps_max=500, newcomer_steps=5, work_s=600)
    auto = replace(auto, total_steps=900)
    world = World(3, [Role(), Role(), Role()], Weather(), auto)
    world.run(LIMIT_S)
    lengths = [body.inner_steps for body in opens(world).values()]
    assert lengths[0] == 5
    assert lengths[-1] > 20
    assert sum(result.steps for result in results(world)) >= 900
    assert len(lengths) < 50
