"""The table: what a plain dictionary would hold, and its earlier copies stay as they were."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.rounds.table import Table


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers()), max_size=200), st.sets(st.integers(0, 300)))
def test_it_holds_what_a_dictionary_holds(pairs: list[tuple[int, int]], dropped: set[int]) -> None:
    plain: dict[int, int] = {}
    table: Table[int, int] = Table()
    for key, value in pairs:
        before = dict(table)
        after = table.set(key, value)
        assert dict(table) == before, "the old one has not changed"
        plain[key], table = value, after
    assert (dict(table), list(table), len(table)) == (plain, list(plain), len(plain)), "in order of insertion"
    fewer = table.drop(dropped)
    left = {key: value for key, value in plain.items() if key not in dropped}
    assert (dict(fewer), list(fewer), len(fewer)) == (left, list(left), len(left))
    assert dict(table) == plain
    assert all((key in fewer) == (key in left) for key in range(300))


def test_it_is_equal_to_any_mapping_with_the_same_entries() -> None:
    assert Table({1: "a", 2: "b"}) == {2: "b", 1: "a"}
    assert Table([(1, "a")]).set(1, "b") != {1: "a"}
    assert repr(Table({1: "a"})) == "Table({1: 'a'})"
