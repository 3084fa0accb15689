"""What tests of the ledger on a real chain begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed
from ledger_setting import LedgerSetting


@pytest.fixture
def setting(deployment: Deployed, tmp_path: Path) -> Iterator[LedgerSetting]:
    """A ledger with nothing in it yet, beside freshly deployed contracts."""
    setting = LedgerSetting(deployment, tmp_path)
    yield setting
    setting.close()
