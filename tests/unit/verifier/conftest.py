"""Lets these tests use the simulated swarm of `tests/sim` and the actors of rounds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / folder) for folder in ("sim", "unit/rounds", "unit/training")]

from signed_world import SignedWorld, make_job  # noqa: E402


@pytest.fixture(scope="session")
def grown() -> SignedWorld:
    """A finished job of five rounds: three honest founders and a cheat, then a newcomer, honest, and another cheat.

    Read it, do not change it.
    """
    world = SignedWorld(make_job(rounds=5), seed=32, members=4, cheats=1, late=(False, True))
    world.run(600.0)
    assert world.finished(), "the job of seed 32 did not finish"
    return world
