"""Quotas, deadlines, round lengths and shares: each a function of what was measured."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.rounds.pacing import IDLE_SHARE_MAX, inner_steps
from anynode.rounds.quotas import GRACE_S, Pace, deadline_s, is_too_slow, quota_max, quotas, smooth, within_budget
from anynode.rounds.shares import MEASURE_AGAIN_ROUNDS, share, to_measure_again

paces = st.builds(Pace, st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), st.integers(0, 10_000))

# --- quotas ---------------------------------------------------------------------------------------------------------


def test_quotas_follow_speed_and_newcomers_get_the_jobs_minimum() -> None:
    known = [Pace(2.0), Pace(1.0), Pace(0.1), Pace(), Pace(0.0, 7)]
    assert quotas(known, 20, 5) == (40, 20, 2, 5, 7)


def test_after_a_restart_the_last_quotas_serve() -> None:
    assert quotas([Pace(0.0, 20), Pace(0.0, 2), Pace()], 20, 5) == (20, 2, 5)


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(paces, min_size=1, max_size=20), st.integers(1, 500), st.integers(1, 10_000))
def test_a_quota_is_from_one_to_twice_the_rounds_steps(known: list[Pace], length: int, newcomer: int) -> None:
    assert all(1 <= quota <= quota_max(length) for quota in quotas(known, length, newcomer))


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(1, 50), max_size=20), st.integers(0, 300))
def test_quotas_are_cut_to_what_the_budget_pays(steps: list[int], most: int) -> None:
    kept = within_budget(steps, most)
    assert sum(kept) == min(most, sum(steps))
    assert all(0 < given <= wanted for given, wanted in zip(kept, steps, strict=False))


def test_a_moving_average_begins_with_the_first_measurement() -> None:
    assert smooth(0.0, 4.0) == 4.0
    assert smooth(4.0, 2.0) == 3.0


def test_who_is_too_slow_for_the_smallest_share_is_known_by_what_a_round_takes() -> None:
    """The median member does its 16 shares in 4 seconds, and a round takes 2 seconds beside that."""
    assert not is_too_slow(Pace(1 / 13), 4.0, 16, 2.0)
    assert is_too_slow(Pace(1 / 15), 4.0, 16, 2.0)
    assert not is_too_slow(Pace(), 4.0, 16, 2.0), "not measured yet"
    assert not is_too_slow(Pace(1e-9), 0.0, 16, 2.0), "nobody is measured who could wait"


# --- deadlines ------------------------------------------------------------------------------------------------------


def test_a_round_waits_for_the_jobs_limit_until_speeds_are_known() -> None:
    assert deadline_s([Pace(), Pace(0.0, 5)], [5, 5], 20, 600) == 600


def test_a_round_waits_half_as_long_again_as_its_members_need() -> None:
    assert deadline_s([Pace(2.0), Pace(1.0), Pace()], [20, 10, 5], 10, 600) == 15 + GRACE_S
    assert deadline_s([Pace(2.0), Pace(1.0)], [20, 10], 10, 12) == 12, "the job's limit holds"


def test_nobody_holds_a_round_up_for_ever() -> None:
    """One step of the slowest would take a thousand seconds; the others are done in ten."""
    assert deadline_s([Pace(1.0), Pace(1.0), Pace(0.001)], [10, 10, 1], 10, 3_600) == 45 + GRACE_S


# --- the length of a round ------------------------------------------------------------------------------------------


def test_a_round_is_as_long_as_keeps_the_rest_at_a_twentieth() -> None:
    assert inner_steps(0.0, 2.0, 10, 500) == 10, "nothing is measured yet"
    assert inner_steps(4.0, 2.0, 10, 500) == 152
    assert inner_steps(4.0, 2.0, 10, 50) == 50
    assert inner_steps(0.1, 2.0, 10, 500) == 10


@settings(deadline=None, derandomize=True, database=None)
@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_the_share_holds_wherever_the_limits_let_it(idle_s: float, speed: float) -> None:
    steps = inner_steps(idle_s, speed, 1, 10**9)
    working_s = steps / speed
    assert idle_s / (idle_s + working_s) <= IDLE_SHARE_MAX + 1e-9
    shorter_s = (steps - 1) / speed
    assert steps == 1 or idle_s / (idle_s + shorter_s) > IDLE_SHARE_MAX - 1e-9, "and no longer than that"


# --- shares ---------------------------------------------------------------------------------------------------------


def counted(reducers: tuple[object, ...]) -> dict[int, int]:
    slots = [item.slot for item in reducers]  # type: ignore[attr-defined]
    return {slot: slots.count(slot) for slot in set(slots)}


def test_shares_follow_measured_rates() -> None:
    assert counted(share(range(100), {}, {0: 6.0, 1: 3.0, 2: 1.0}, "seed")) == {0: 60, 1: 30, 2: 10}
    assert counted(share(range(90), {}, {0: 0.0, 1: 0.0, 2: 0.0}, "seed")) == {0: 30, 1: 30, 2: 30}
    assert counted(share(range(80), {}, {0: 2.0, 1: 2.0, 2: 4.0, 3: 0.0}, "seed"))[3] == 16, (
        "as the median of the others"
    )


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.integers(0, 60),
    st.dictionaries(st.integers(0, 30), st.floats(0.0, 1e6), min_size=1, max_size=12),
    st.dictionaries(st.integers(0, 59), st.integers(0, 40), max_size=10),
    st.text(max_size=8),
    st.booleans(),
)
def test_every_chunk_has_one_reducer_and_every_reducer_one_witness(
    chunks: int, rates: dict[int, float], kept: dict[int, int], seed: str, once_more: bool
) -> None:
    kept = {chunk: slot for chunk, slot in kept.items() if chunk < chunks}
    free = [chunk for chunk in range(chunks) if chunk not in kept]
    again = min(rates) if once_more else None
    reducers = share(free, kept, rates, seed, again)
    assert [item.chunk for item in reducers] == list(range(chunks))
    assert again is None or not free or again in {item.slot for item in reducers}
    witnesses: dict[int, int] = {}
    for item in reducers:
        assert item.slot == kept[item.chunk] if item.chunk in kept else item.slot in rates
        assert item.witness in rates
        assert witnesses.setdefault(item.slot, item.witness) == item.witness
        assert item.witness != item.slot or len(rates) == 1, "nobody witnesses itself beside others"
    assert share(free, kept, dict(reversed(rates.items())), seed, again) == reducers, "whatever the order"


def test_who_was_slow_long_ago_gets_one_chunk_again() -> None:
    rates = {0: 8.0, 1: 8.0, 2: 0.1, 3: 0.0}
    assert counted(share(range(8), {}, rates, "seed")).keys() == {0, 1, 3}, "slow: it gets none, and is not measured"
    measured = {0: 20, 1: 20, 2: 4, 3: -1}
    assert to_measure_again(rates, measured, 4 + MEASURE_AGAIN_ROUNDS - 1) is None
    assert to_measure_again(rates, measured, 4 + MEASURE_AGAIN_ROUNDS) == 2, "and not who was never measured"
    assert to_measure_again({**rates, 1: 0.1}, {**measured, 1: 3}, 4 + MEASURE_AGAIN_ROUNDS) == 1, "the longest ago"
    shares = counted(share(range(8), {}, rates, "seed", again=2))
    assert shares[2] == 1 and sum(shares.values()) == 8
    assert counted(share(range(1), {}, rates, "seed", again=2)) == {2: 1}
    assert counted(share(range(80), {}, {0: 1.0, 1: 1.0}, "seed", again=1)) == {0: 40, 1: 40}, "and no more"


def test_without_anybody_to_reduce_nobody_does() -> None:
    assert share(range(5), {}, {}, "seed") == ()
