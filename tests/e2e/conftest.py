"""End-to-end tests run the product as people do: real commands, a real chain, real peers and training processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The processes of the demo and of these tests are started and ended by one piece of code.
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "run_demo"))

from small_network import SmallNetwork, Wares


@pytest.fixture(scope="session")
def wares(tmp_path_factory: pytest.TempPathFactory) -> Wares:
    """A tiny model and a small data set."""
    return Wares(tmp_path_factory.mktemp("wares"))


@pytest.fixture(scope="module")
def network(wares: Wares) -> Iterator[SmallNetwork]:
    """A network of this test module's own: chain, contracts, wallets; no verifier and no worker yet."""
    with SmallNetwork(wares) as small:
        yield small
