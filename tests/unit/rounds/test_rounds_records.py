"""Records: the hash covers every field of the body and the place, not the signature; books follow from results."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_actors import BOB, BODIES, NEXT, SIGNATURE, chain_of, signed

from anynode.rounds.books import close_books
from anynode.rounds.course import ChunkResult, Committed, Open, Seal
from anynode.rounds.records import Record


def variants(value: Any) -> list[Any]:
    """The value with one thing in it changed, for each thing in it."""
    if is_dataclass(value) and not isinstance(value, type):
        found = []
        for field in fields(value):
            found += [replace(value, **{field.name: other}) for other in variants(getattr(value, field.name))]
        return found
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case str():
            return [value + "0"]
        case tuple():
            changed = [
                (*value[:place], other, *value[place + 1 :])
                for place, item in enumerate(value)
                for other in variants(item)
            ]
            return [*changed, value[1:], (*value, *value[:1])] if value else []
    raise AssertionError(f"{value!r} is of no kind that a record holds")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.kind)
def test_the_hash_covers_every_field(body: Any) -> None:
    record = Record("a" * 64, 3, "9" * 64, body)
    others = [other for other in variants(record) if other != record]
    assert len(others) > 5
    assert len({record.hash, *(other.hash for other in others)}) == len(set(others)) + 1


def test_the_hash_does_not_cover_the_signature() -> None:
    record = chain_of(*BODIES)[0]
    assert signed(record, "alice").record.hash == signed(record, "bob").record.hash == record.hash


def test_the_hash_is_pinned() -> None:
    """A change of this value breaks every chain there is."""
    record = Record("a" * 64, 0, "0" * 64, BODIES[0])
    assert record.hash == "43fc435ced3dd01c0e5796d065e7475239812c459660103bd87f122b7b481037"


# --- closing the books ----------------------------------------------------------------------------------------------


def opened(quotas: list[int]) -> Open:
    body = BODIES[1]
    assert isinstance(body, Open)
    members = tuple(replace(body.members[0], slot=slot, quota_steps=steps) for slot, steps in enumerate(quotas))
    ends = [sum(quotas[: slot + 1]) * 2 for slot in range(len(quotas))]
    ranges = tuple((((end - steps * 2), end),) for end, steps in zip(ends, quotas, strict=True))
    return replace(body, members=members, ranges=ranges, cursor=ends[-1], returned=())


def sealed(steps: dict[int, int]) -> Seal:
    body = BODIES[2]
    assert isinstance(body, Seal)
    items = tuple(
        Committed(slot, BOB, done, done * 2, 2, NEXT, NEXT, "class", "1", 0, SIGNATURE) for slot, done in steps.items()
    )
    return replace(body, commitments=items)


def included(*senders: tuple[int, ...]) -> list[ChunkResult]:
    return [ChunkResult(chunk, 0, 0, who, NEXT) for chunk, who in enumerate(senders)]


def test_the_step_count_is_the_sample_weighted_mean_rounded_down() -> None:
    books = close_books(opened([4, 4]), sealed({0: 4, 1: 1}), included((0, 1)))
    assert books.steps == (8 * 4 + 2 * 1) // 10 == 3
    assert books.returned == ((10, 16),), "what the second did not train goes back"
    assert books.cursor == 16


def test_an_update_that_no_chunk_holds_gives_its_samples_back() -> None:
    books = close_books(opened([4, 4]), sealed({0: 4, 1: 4}), included((0,), (0,)))
    assert (books.steps, books.returned) == (4, ((8, 16),))


def test_a_void_round_gives_everything_back() -> None:
    before = replace(opened([4, 4]), returned=((100, 103),))
    books = close_books(before, sealed({0: 4}), [])
    assert (books.steps, books.returned) == (0, ((0, 16), (100, 103)))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=6))
def test_every_position_is_trained_or_returned(members: list[tuple[int, int, bool]]) -> None:
    before = opened([quota for quota, _, _ in members])
    steps = {slot: min(done, quota) for slot, (quota, done, _) in enumerate(members) if done}
    senders = tuple(slot for slot in steps if members[slot][2])
    books = close_books(before, sealed(steps), included(senders) if senders else [])
    trained = {
        p for slot in senders for p in range(before.ranges[slot][0][0], before.ranges[slot][0][0] + steps[slot] * 2)
    }
    pool = {p for start, end in books.returned for p in range(start, end)}
    assert not trained & pool
    assert trained | pool == set(range(before.cursor))
    assert books.steps <= max(steps.values(), default=0)
