"""Wei as tokens and back: exact in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.wallet.amounts import parse_tokens, show_wei
from anynode_contracts.errors import UserError


@given(st.integers(min_value=0, max_value=10**30 - 1))
def test_round_trip(amount_wei: int) -> None:
    assert parse_tokens(show_wei(amount_wei).replace(",", "")) == amount_wei


def test_examples() -> None:
    assert show_wei(1_234_567 * 10**18 + 5 * 10**17) == "1,234,567.5"
    assert show_wei(1) == "0.000000000000000001"
    assert show_wei(-15 * 10**17) == "-1.5"
    assert parse_tokens("0.1") == 10**17


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1,000", ".5", "1.", "0.0000000000000000001", "١", "9" * 13, "1 "])
def test_not_an_amount(text: str) -> None:
    with pytest.raises(UserError, match="not an amount"):
        parse_tokens(text)
