"""Lets these tests use the simulated swarm of `tests/sim` and the actors of rounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / folder) for folder in ("sim", "unit/rounds", "unit/training")]

from appealed_world import AppealedWorld, appealed_world  # noqa: E402
from bank import NETWORK, Bank  # noqa: E402
from signed_world import SignedWorld, make_job  # noqa: E402

from anynode_contracts.networks import Network  # noqa: E402


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
def appealed() -> AppealedWorld:
    """A finished job in which rejected work was appealed against. Read it, do not change it."""
    return appealed_world()


@pytest.fixture
def open_bank(tmp_path: Path, grown: SignedWorld) -> Iterator[Callable[..., Bank]]:
    banks: list[Bank] = []

    def open_it(network: Network = NETWORK) -> Bank:
        banks.append(Bank(tmp_path / f"ledger-{len(banks)}.sqlite", grown, network))
        return banks[-1]

    yield open_it
    for bank in banks:
        bank.book.close()


@pytest.fixture
def bank(open_bank: Callable[..., Bank]) -> Bank:
    return open_bank().fill()
