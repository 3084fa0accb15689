"""Who may speak for a sender: the reducer's witness first, then others by the beacon, never one of the two."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from round_actors import BODIES

from anynode.rounds.course import Assign, Open, Reducer
from anynode.rounds.witnesses import WITNESSES_MAX, witnesses_of


def a_round(count: int, *, unreachable: tuple[int, ...] = (), absent: tuple[int, ...] = ()) -> tuple[Open, Assign]:
    """A round of ``count`` members, in which slot 0 reduces and slot 1 is its witness, if it can be another."""
    opened, assign = BODIES[1], BODIES[3]
    assert isinstance(opened, Open) and isinstance(assign, Assign)
    member = opened.members[0]
    members = tuple(replace(member, slot=slot, reduces=slot not in unreachable) for slot in range(count))
    placed = replace(assign, accepted=tuple(range(count)), absent=absent, reducers=(Reducer(0, 0, min(1, count - 1)),))
    return replace(opened, members=members), placed


def test_the_first_is_the_one_that_the_assignment_names() -> None:
    for count in range(2, 10):
        opened, assign = a_round(count)
        for sender in range(1, count):
            found = witnesses_of(opened, assign, 0, sender)
            assert len(set(found)) == len(found) == min(WITNESSES_MAX, count - 2)
            assert not {0, sender} & set(found)
            assert sender == 1 or found[0] == 1


def test_who_is_dead_or_cannot_be_reached_speaks_for_nobody() -> None:
    opened, assign = a_round(6, unreachable=(2,), absent=(3,))
    assert set(witnesses_of(opened, assign, 0, 4)) == {1, 5}


def test_a_swarm_of_two_has_no_witness() -> None:
    """Nor has a reducer of whom the assignment knows nothing more than its own name."""
    assert witnesses_of(*a_round(2), 0, 1) == witnesses_of(*a_round(1), 0, 0) == ()


def test_conspirators_rarely_are_all_of_them() -> None:
    """With a quarter of 40 members against it, a sender loses about one in a hundred of the chunks that they reduce."""
    opened, assign = a_round(40)
    evil, sender, lost, rounds = set(range(10)), 39, 0, 2_000
    for round_, reducer in product(range(rounds), range(2)):
        now = replace(opened, round=round_)
        drawn = replace(assign, reducers=(Reducer(0, reducer, (round_ + 1 + reducer) % 39),))
        lost += set(witnesses_of(now, drawn, reducer, sender)) <= evil
    assert 0.005 < lost / (2 * rounds) < 0.025, "given an evil reducer: about a quarter to the third power"
