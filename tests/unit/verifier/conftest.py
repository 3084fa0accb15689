"""Lets these tests use the simulated swarm of `tests/sim`, the real chain of `tests/chain` and the actors of rounds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / folder) for folder in ("sim", "chain", "unit/rounds", "unit/training")]

from deployed import Deployed  # noqa: E402
from signed_world import SignedWorld, make_job  # noqa: E402

from anynode_contracts.anvil import Anvil, find_anvil  # noqa: E402


@pytest.fixture(scope="session")
def grown() -> SignedWorld:
    """A finished job of five rounds: three honest founders and a cheat, then a newcomer, honest, and another cheat.

    Read it, do not change it.
    """
    world = SignedWorld(make_job(rounds=5), seed=32, members=4, cheats=1, late=(False, True))
    world.run(600.0)
    assert world.finished(), "the job of seed 32 did not finish"
    return world


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """A real chain on a free loopback port."""
    with Anvil.start(find_anvil(TESTS.parent)) as running:
        yield running


@pytest.fixture(scope="session")
def deployed_once(anvil: Anvil) -> Deployed:
    return Deployed.on(anvil)


@pytest.fixture
def deployment(deployed_once: Deployed) -> Iterator[Deployed]:
    """Freshly deployed contracts; whatever the test does to them is undone."""
    snapshot = deployed_once.anvil.snapshot()
    yield deployed_once
    deployed_once.anvil.revert(snapshot)
