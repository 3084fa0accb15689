"""Churn: real processes of one swarm that come, go and are killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The network and the processes are those of the end-to-end tests; the homes are those of the benchmarks.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "e2e"))
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "run_demo"))
sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "run_bench"))

from churn_network import MODEL, ChurnNetwork
from small_network import Wares


@pytest.fixture(scope="session")
def churn_wares(tmp_path_factory: pytest.TempPathFactory) -> Wares:
    """A model whose state has several blob chunks and whose updates have several exchange chunks."""
    return Wares(tmp_path_factory.mktemp("churn-wares"), *MODEL)


@pytest.fixture(scope="module")
def swarm(churn_wares: Wares) -> Iterator[ChurnNetwork]:
    """A running swarm with a job that goes on for as long as the tests of a module need it."""
    with ChurnNetwork(churn_wares) as network:
        network.begin()
        yield network
