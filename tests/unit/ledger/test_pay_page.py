"""docs/pay.md says what is so: every figure on it is computed, and no figure stands outside its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pay_page import Example

from anynode_contracts.entries import GWEI
from anynode_contracts.pay_split import PaySplit

PAGE = (Path(__file__).parents[3] / "docs" / "pay.md").read_text()
EXAMPLES = re.findall(r"^```pay\n(.*?)^```\n", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(text: str) -> None:
    example = Example()
    for line in text.splitlines():
        try:
            example.play(line)
        except AssertionError as error:
            raise AssertionError(f"docs/pay.md: {line!r} is not so: {error}") from error
    example.book.close()


def test_no_figure_stands_outside_the_examples() -> None:
    prose = re.sub(r"^```pay\n.*?^```\n", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    split = PaySplit()
    known = f"{split.samples} % to samples, {split.audits} % to audits, {split.reducing} % to reducing"
    assert known in prose and GWEI == 10**9
    rest = re.sub(r"node \d|10\^9", "", prose.replace(known, ""))
    words = re.findall(r"\S*\d\S*", rest)
    assert words == [], "a figure that nothing computes"


def test_every_case_is_there() -> None:
    """One example a case, and each of them compares something."""
    assert len(EXAMPLES) >= 15
    for words in ("granted:", "upheld:", "root vetoed", "refund", "missing", "dust", "slash", "close", "at most"):
        assert any(words in text for text in EXAMPLES), words
    assert all("earned:" in text for text in EXAMPLES)
