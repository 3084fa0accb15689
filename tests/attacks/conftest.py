"""Fixtures of the attacks, and the report that `scripts/bench attacks` reads.

Each file holds one attack: its ``ATTACK`` with name, sentence and expected outcome, and tests that make it, with
``--deep`` also in a small real swarm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import shared_modules  # noqa: F401 (finds the modules imported next)
from attack import Attack, Expect, Finding
from cheats import CHEATS, TURN, TURNED
from court import Court
from purse import Purse
from small_network import Wares

from swarm import Swarm

ENTRY = pytest.StashKey[dict[str, Any]]()


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Expect:
    """Asserts that what came of the attack is what its file says."""

    def assert_it(found: Finding) -> None:
        request.node.stash[ENTRY] = asdict(found)
        attack: Attack = request.module.ATTACK
        assert found.outcome == attack.outcome, f"{attack.name}: {found.how}"
        assert found.paid_wei - found.slashed_wei <= 0, f"{attack.name} has been paid {found.paid_wei} wei"

    return assert_it


@pytest.fixture(scope="session")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    with Court.open(tmp_path_factory.mktemp("court")) as opened:
        yield opened


@pytest.fixture(scope="session")
def purse(tmp_path_factory: pytest.TempPathFactory) -> Purse:
    return Purse(tmp_path_factory.mktemp("purse"))


@pytest.fixture(scope="session")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Swarm:
    """A swarm, at its end, in which all but two have cheated from their first round on."""
    return Swarm.run(Wares(tmp_path_factory.mktemp("wares")), CHEATS, rounds=2)


@pytest.fixture(scope="session")
def turned_swarm(tmp_path_factory: pytest.TempPathFactory) -> Swarm:
    """A swarm, at its end, in which all but two were honest until they were proven, and then cheated."""
    return Swarm.run(Wares(tmp_path_factory.mktemp("turned-wares")), TURNED, rounds=TURN + 2)


class Reporter:
    """One entry an attack: what its file says, whether its tests passed, and what they found; apart from that, of those
    in a real swarm, which are the deep ones.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._entries = path, dict[str, dict[str, Any]]()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]
        attack = getattr(getattr(item, "module", None), "ATTACK", None)
        if not isinstance(attack, Attack) or (report.when != "call" and report.outcome == "passed"):
            return
        entry = self._entries.setdefault(attack.name, asdict(attack) | {"alone": _nothing(), "swarm": _nothing()})
        entry = entry["swarm" if item.get_closest_marker("deep") else "alone"]
        entry["results"].append(report.outcome)
        entry["found"] = item.stash.get(ENTRY, entry["found"])

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(list(self._entries.values())), encoding="utf-8")


def _nothing() -> dict[str, Any]:
    return {"results": [], "found": None}


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--attack-report")
    if path:
        config.pluginmanager.register(Reporter(Path(path)))
