"""The posting process is killed, a real process by a real SIGKILL, at every point and at random: all is paid once.

``--seed N`` gives the random kills another seed; the seed is printed.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from deployed import Deployed
from ledger_setting import TOKEN, LedgerSetting
from postgresql_server import Server
from posting_process import Order, Poster
from sqlalchemy import make_url

from anynode_ledger.settlement import batches_of

KILLS = 1_000
KILLS_PER_STORY = 5
STORIES_PER_MEASURE = 10
AMOUNTS = (3 * TOKEN + 1, 2 * TOKEN, TOKEN)
# a handful for every run: amid the credits, before a nonce is locked, and before and after what leaves the machine
NAMED = (
    ("before INSERT INTO credits", 1),
    ("before INSERT INTO outbox_signed", 1),
    ("before eth_sendRawTransaction", 2),
    ("after eth_sendRawTransaction", 3),
)


@pytest.fixture(scope="module")
def poster() -> Iterator[Poster]:
    with Poster.started() as poster:
        yield poster


@dataclass
class Stories:
    """One batch, posted again and again from the same start: chain and database are reset for each story."""

    deployed: Deployed
    folder: Path
    poster: Poster
    server: Server | None
    start: LedgerSetting
    told: int = 0
    kills: int = 0
    killed_at: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(cls, deployed: Deployed, folder: Path, poster: Poster, url: str, server: Server | None) -> Stories:
        start = LedgerSetting(deployed, folder, url=url)
        start.begin()
        start.close()
        return cls(deployed, folder, poster, server, start)

    def order(self, url: str) -> Order:
        amounts = {str(index): amount for index, amount in zip(self.start.nodes, AMOUNTS, strict=True)}
        network = self.deployed.network.model_dump_json()
        keys = self.deployed.poster.key.hex(), self.deployed.verifier.key.hex()
        return Order(url, network, *keys, self.start.job_id, amounts, self.start.now_s)

    def copy(self) -> str:
        """The URL of a fresh copy of the start."""
        self.told += 1
        if self.server is not None:
            return self.server.url(self.server.create(_name(self.start.url)))
        path = self.folder / f"{self.told}.sqlite"
        shutil.copy(self.start.url.removeprefix("sqlite:///"), path)
        return f"sqlite:///{path}"

    def tell(self, *deaths: tuple[str, int] | float) -> float:
        """Post with these deaths on the way (a point's name and occurrence, or seconds), then to the end, and look at
        everything; the seconds of the last life."""
        url, snapshot = self.copy(), self.deployed.anvil.snapshot()
        order = self.order(url)
        for death in deaths:
            if isinstance(death, float):
                code = self.poster.live(replace(order, kill_after_s=death))
            else:
                code = self.poster.live(replace(order, die_at=death))
                self.killed_at[death[0]] += code != 0
            assert code in (0, -signal.SIGKILL)
            self.kills += code != 0
        began_s = time.monotonic()
        assert self.poster.live(order) == 0
        seconds = time.monotonic() - began_s
        self.look(url)
        self.deployed.anvil.revert(snapshot)
        if self.server is not None:
            self.server.drop(_name(url))
        return seconds

    def kill_at_random(self, kills: int, seed: int) -> None:
        """Until so many kills have hit. How long a life takes depends on who else uses the machine, and is measured
        again and again: by a time that is too long most lives would have ended before they are killed.
        """
        print(f"--seed {seed}")
        dice = random.Random(seed)
        while self.kills < kills:
            whole_s = self.tell()
            for _ in range(STORIES_PER_MEASURE):
                self.tell(*(dice.uniform(0.0, whole_s) for _ in range(KILLS_PER_STORY)))

    def look(self, url: str) -> None:
        """One draw, one finalisation, one root, no nonce beside their three; and every credit is in the root."""
        deployed = self.deployed
        after = LedgerSetting(deployed, self.folder, url=url, nodes=self.start.nodes, job_id=self.start.job_id)
        after.sent_once()
        (stored,) = batches_of(after.book)
        assert [entry.cumulative_gwei for entry in stored.batch.entries] == [amount // 10**9 for amount in AMOUNTS]
        assert stored.state == "posted"
        assert [after.book.balances(index).earned_wei for index in after.nodes] == list(AMOUNTS)
        counts = [deployed.w3.eth.get_transaction_count(deployed.poster.address, at) for at in ("latest", "pending")]
        assert counts == [3, 3]
        after.close()


def _name(url: str) -> str:
    return make_url(url).database or ""


@pytest.fixture
def stories(deployment: Deployed, tmp_path: Path, poster: Poster, url: str, request: pytest.FixtureRequest) -> Stories:
    server = request.getfixturevalue("postgresql") if url.startswith("postgresql") else None
    return Stories.begin(deployment, tmp_path, poster, url, server)


def test_killed_at_a_named_point(stories: Stories) -> None:
    named = NAMED if stories.server is None else NAMED[1:2]
    for name, occurrence in named:
        stories.tell((name, occurrence))
    assert stories.kills == len(named), f"not every point was met: {stories.killed_at}"


@pytest.mark.deep
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_killed_everywhere_and_at_random_a_thousand_times(stories: Stories, only_seed: int | None) -> None:
    """Every point that a whole life passes, each in a story of its own; then at random moments, several times each."""
    names = stories.folder / "points"
    url, snapshot = stories.copy(), stories.deployed.anvil.snapshot()
    assert stories.poster.live(replace(stories.order(url), points=str(names))) == 0
    stories.deployed.anvil.revert(snapshot)
    seen: Counter[str] = Counter()
    for name in names.read_text().splitlines():
        seen[name] += 1
        stories.tell((name, seen[name]))
    print(f"killed at {stories.kills} of {seen.total()} points: {dict(stories.killed_at)}")
    assert stories.kills >= seen.total() * 9 // 10  # how often a receipt is asked for depends on how soon it is mined
    assert set(stories.killed_at) == set(seen)
    at_points = stories.kills
    stories.kill_at_random(KILLS, random.randrange(2**32) if only_seed is None else only_seed)
    print(f"{stories.kills} kills in {stories.told} stories, {stories.kills - at_points} of them at random moments")


@pytest.mark.deep
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_killed_at_random_on_a_server(stories: Stories, only_seed: int | None) -> None:
    stories.kill_at_random(KILLS // 10, random.randrange(2**32) if only_seed is None else only_seed)
