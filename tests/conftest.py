"""Options of the whole test suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says more of who else uses the machine than of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="replay this one simulated schedule")
    parser.addoption("--deep", action="store_true", help="the full setting: more schedules, more runs")


@pytest.fixture
def only_seed(request: pytest.FixtureRequest) -> int | None:
    """The seed of the one schedule to replay, or none for all of them."""
    seed: int | None = request.config.getoption("--seed")
    return seed
