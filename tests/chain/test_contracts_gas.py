"""What the distributor's transactions cost at most: the table of `scripts/bench gas`, 1,024 leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from gas import System, table

from anynode_contracts.anvil import Anvil, find_anvil

ROOT = Path(__file__).parents[2]


def test_every_operation_stays_within_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    with Anvil.start(find_anvil(ROOT)) as anvil:
        rows = table(System(anvil, traced=False))
    with capsys.disabled():
        print("\n" + "\n".join(f"{row.title:<40} {row.parts.gas:>12,.0f} of {row.bound:,}" for row in rows))
    assert {row.key: row.parts.gas for row in rows if row.parts.gas >= row.bound} == {}
