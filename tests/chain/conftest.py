"""Real chains for tests: one anvil per test session, and contracts deployed once and rolled back after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deployed import ROOT, Deployed

from anynode_contracts.anvil import Anvil, find_anvil


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """A real chain on a free loopback port: ``.url``, ``.w3``, ``.fund(address, ether)``, ``.pass_time(seconds)``."""
    with Anvil.start(find_anvil(ROOT)) as running:
        yield running


@pytest.fixture
def fresh_chain(anvil: Anvil) -> Iterator[Anvil]:
    """The session's chain; whatever the test does to it is undone."""
    snapshot = anvil.snapshot()
    yield anvil
    anvil.revert(snapshot)


@pytest.fixture(scope="session")
def deployed_once(anvil: Anvil) -> Deployed:
    """The contracts with fresh accounts. Tests want ``deployment``, which undoes what they do."""
    return Deployed.on(anvil)


@pytest.fixture
def deployment(deployed_once: Deployed) -> Iterator[Deployed]:
    """Freshly deployed contracts; whatever the test does to them is undone."""
    snapshot = deployed_once.anvil.snapshot()
    yield deployed_once
    deployed_once.anvil.revert(snapshot)
