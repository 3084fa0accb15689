"""Several verifiers of one network, each a real process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The network and the processes are those of the end-to-end tests.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "e2e"))
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "run_demo"))

from small_network import Wares


@pytest.fixture(scope="session")
def quorum_wares(tmp_path_factory: pytest.TempPathFactory) -> Wares:
    """A tiny model and data set."""
    return Wares(tmp_path_factory.mktemp("quorum-wares"))
