"""What the whole test suite shares: its options, fresh databases of either kind for the ledger, and a real chain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# Tests and benchmarks start and end their servers with one piece of code, and measure gas with another.
sys.path[:0] = [str(TESTS.parent / "scripts" / "run_bench"), str(TESTS / "chain")]


if TYPE_CHECKING:
    from deployed import Deployed
    from postgresql_server import Server

    from anynode_contracts.anvil import Anvil

# How long an example takes says more of who else uses the machine than of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="replay this one simulated schedule")
    parser.addoption("--deep", action="store_true", help="the full setting: more schedules, more runs")
    parser.addoption("--attack-report", metavar="FILE", default=None, help="write what came of the attacks to FILE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--deep"):
        for item in items:
            if item.get_closest_marker("deep"):
                item.add_marker(pytest.mark.skip(reason="takes long: --deep"))


@pytest.fixture
def only_seed(request: pytest.FixtureRequest) -> int | None:
    """The seed of the one schedule to replay, or none for all of them."""
    seed: int | None = request.config.getoption("--seed")
    return seed


@pytest.fixture
def deep(request: pytest.FixtureRequest) -> bool:
    """Whether the full setting was asked for."""
    return bool(request.config.getoption("--deep"))


NOT_TESTED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A real server on a private socket; tests that want it are skipped, loudly, where there can be none."""
    from postgresql_server import Server

    from anynode_contracts.errors import UserError

    try:
        server = Server.start()
    except UserError as error:
        pytestconfig.stash[NOT_TESTED] = str(error)
        pytest.skip(f"PostgreSQL is NOT tested: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgresql: Server) -> str:
    """The name of a PostgreSQL database with the ledger's tables, to be copied."""
    from anynode_ledger.database import open_engine

    name = postgresql.create()
    open_engine(postgresql.url(name)).dispose()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    name = server.create(request.getfixturevalue("migrated"))
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """A real chain on a free loopback port: ``.url``, ``.w3``, ``.fund(address, ether)``, ``.pass_time(seconds)``."""
    from anynode_contracts.anvil import Anvil, find_anvil

    with Anvil.start(find_anvil(TESTS.parent)) as running:
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
    from deployed import Deployed

    return Deployed.on(anvil)


@pytest.fixture
def deployment(deployed_once: Deployed) -> Iterator[Deployed]:
    """Freshly deployed contracts; whatever the test does to them is undone."""
    snapshot = deployed_once.anvil.snapshot()
    yield deployed_once
    deployed_once.anvil.revert(snapshot)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was not tested on this machine is said where nobody overlooks it."""
    if (reason := config.stash.get(NOT_TESTED, None)) is not None:
        terminalreporter.section("PostgreSQL was NOT tested", red=True, bold=True)
        terminalreporter.line(reason)
