"""What a round earns: shares, rounding, and never more than the price."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode_contracts.errors import InvariantError
from anynode_contracts.pay_split import PaySplit
from anynode_ledger.pay import MemberWork, round_pay

JOB = "1" * 64
works = st.builds(
    lambda index, samples, due, share, reduced: MemberWork(index, samples, due * share // 100, due, reduced),
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**40),
    st.integers(0, 500),
    st.integers(0, 100),
    st.integers(0, 2**40),
)
members = st.lists(works, max_size=8, unique_by=lambda member: member.node_index)


def test_ninety_five_five() -> None:
    work = [MemberWork(1, 1_000_000, 4, 4, 300), MemberWork(2, 1_000_000, 2, 4, 100)]
    earned = round_pay(JOB, 7, 1_000, work, {9: 1})
    # the pot is 1000 + 500
    assert [(credit.node_index, credit.kind, credit.amount_wei) for credit in earned] == [
        (1, "reducing", 56),
        (1, "samples", 900),
        (2, "reducing", 18),
        (2, "samples", 450),
        (9, "audit", 75),
    ]


def test_alone_there_is_nobody_to_deliver_to() -> None:
    (credit,) = round_pay(JOB, 0, 10, [MemberWork(1, 1_000_000, 0, 0, 0)], {})
    assert (credit.kind, credit.amount_wei, credit.id) == ("samples", 9, f"{JOB}/0/1/samples")


def test_nobody_accepted_costs_nothing() -> None:
    assert round_pay(JOB, 0, 10**18, [], {9: 3}) == []


def test_bad_counts_are_broken_invariants() -> None:
    for work in ([MemberWork(1, 1, 5, 4, 0)], [MemberWork(1, -1, 4, 4, 0)], [MemberWork(1, 1, 1, 1, 0)] * 2):
        with pytest.raises(InvariantError):
            round_pay(JOB, 0, 1, work, {})
    with pytest.raises(InvariantError):
        PaySplit(90, 5, 6)


@given(members, st.dictionaries(st.integers(1, 2**32 - 1), st.integers(0, 2**30), max_size=4), st.integers(0, 10**30))
def test_credits_never_exceed_the_price_and_keep_their_order(
    work: list[MemberWork], auditors: dict[int, int], price: int
) -> None:
    credits_ = round_pay(JOB, 3, price, work, auditors)
    full_price = sum(member.samples for member in work) * price // 1_000_000
    assert sum(credit.amount_wei for credit in credits_) <= full_price
    assert [credit.node_index for credit in credits_] == sorted(credit.node_index for credit in credits_)
    assert len({credit.id for credit in credits_}) == len(credits_)
    assert round_pay(JOB, 3, price, work[::-1], auditors) == credits_
    for member in work:
        own = sum(c.amount_wei for c in credits_ if c.node_index == member.node_index and c.kind == "samples")
        assert own <= member.samples * price * 90 // 100_000_000
