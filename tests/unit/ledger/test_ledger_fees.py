"""What a replacement on the same nonce offers: enough for any node, and never more than the limit."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from anynode_ledger.fees import Fees, raised, replacement

wei = st.integers(0, 2**80)


@given(wei)
def test_a_raised_fee_is_an_eighth_and_a_wei_more_at_least(fee_wei: int) -> None:
    assert raised(fee_wei) > fee_wei
    assert Fraction(raised(fee_wei)) >= Fraction(fee_wei) * Fraction(9, 8)
    assert raised(fee_wei) - 1 <= Fraction(fee_wei) * Fraction(9, 8), "and not a wei more than that"


def test_a_tip_of_nothing_is_raised_too() -> None:
    """Nodes refuse a replacement whose tip is what it was, and the nonce would stick."""
    assert raised(0) == 1
    assert replacement(Fees(8, 0), Fees(8, 0), limit_wei=100) == Fees(9, 1)


@given(wei, wei, wei, wei, wei)
def test_a_replacement_raises_both_fees_within_the_limit(
    max_: int, tip: int, now: int, now_tip: int, limit: int
) -> None:
    former = Fees(max_ + tip, tip)
    offered = replacement(former, Fees(now + now_tip, now_tip), limit)
    if offered is None:
        assert raised(former.max_wei) > limit, "nothing else stands in the way"
        return
    assert raised(former.max_wei) <= offered.max_wei <= limit
    assert raised(former.priority_wei) <= offered.priority_wei <= offered.max_wei
