"""How seeded schedules are dealt to tests: in blocks, many more with ``--deep``, or one alone with ``--seed``."""

from __future__ import annotations

import pytest

BLOCK = 50


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``seeds`` of a module's ``SCHEDULES`` schedules, or of its ``SCHEDULES_DEEP``."""
    if "seeds" not in metafunc.fixturenames:
        return
    only = metafunc.config.getoption("--seed")
    module = metafunc.module
    count = module.SCHEDULES_DEEP if metafunc.config.getoption("--deep") else module.SCHEDULES
    blocks = [range(first, first + BLOCK) for first in range(0, count, BLOCK)] if only is None else [[only]]
    metafunc.parametrize("seeds", blocks, ids=[f"from {block[0]}" for block in blocks])
