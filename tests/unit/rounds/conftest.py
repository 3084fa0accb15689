"""The coordinator and the member with which these tests begin; and the simulated swarm of `tests/sim` beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from round_centre import ALICE, BOB, Centre
from round_member import CHAIN, Member

from anynode.rounds.coordinator import Phase
from anynode.rounds.events import Tick

sys.path.insert(0, str(Path(__file__).parents[2] / "sim"))


@pytest.fixture
def centre() -> Centre:
    """Alice and Bob are in round 0."""
    started = Centre()
    started.feed_until_still(Tick())
    started.join(ALICE, BOB)
    return started


@pytest.fixture
def exchanging(centre: Centre) -> Centre:
    """Alice and Bob are accepted; four chunks are to be reduced."""
    centre.commit(ALICE, BOB)
    centre.replay()
    assert centre.state.phase is Phase.EXCHANGING
    return centre


@pytest.fixture
def alice() -> Member:
    """In round 0, its work under way."""
    alice = Member()
    alice.records(*CHAIN[:2])
    return alice
