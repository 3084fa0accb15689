"""The roots of a public ledger against those on a real chain: every difference is named, what is newer is not one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployed import DATA_HASH, Deployed
from ledger_setting import TOKEN, LedgerSetting

from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.networks import connect
from anynode_ledger.public import PublicBatch, public_ledger
from anynode_ledger.settlement import settle
from anynode_verifier.chain_roots import RootsSeen, compare_roots, roots_on_chain


@dataclass
class Story:
    """A first batch that was vetoed, posted again and became active, and a second one that waits."""

    setting: LedgerSetting

    @property
    def listed(self) -> list[PublicBatch]:
        return public_ledger(self.setting.book).batches

    def check(self, batches: list[PublicBatch]) -> RootsSeen:
        return compare_roots(batches, roots_on_chain(self.setting.deployed.w3, self.setting.deployed.network))

    def settle(self) -> None:
        assert settle(self.setting.book, self.setting.deployed.network) is not None


@pytest.fixture
def story(deployment: Deployed, tmp_path: Path) -> Iterator[Story]:
    setting = LedgerSetting(deployment, tmp_path)
    story = Story(setting)
    setting.begin()
    setting.earn(0, [TOKEN, TOKEN, 0])
    story.settle()
    setting.deliver()
    deployment.send(deployment.guardian, deployment.distributor.build_veto())
    setting.intake().advance()
    story.settle()
    setting.deliver()
    setting.take_in()
    setting.earn(1, [0, TOKEN, TOKEN])
    story.settle()
    yield story
    setting.close()


def test_the_chains_roots_are_confirmed_and_what_is_newer_is_no_difference(story: Story) -> None:
    before = story.listed
    assert [batch.state for batch in before] == ["void", "posted", "pending"]
    assert story.check(before) == RootsSeen(confirmed=2, not_posted=1, later=0)
    story.setting.deliver()
    assert story.check(before) == RootsSeen(confirmed=3, not_posted=0, later=0)
    assert story.check(before[:2]) == RootsSeen(confirmed=2, not_posted=0, later=1)
    assert story.check(before[:1]) == RootsSeen(confirmed=1, not_posted=0, later=2)
    assert story.check([]) == RootsSeen(confirmed=0, not_posted=0, later=3)


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        (1, {"root": "1" * 64}, "batch 1 attempt 2 has the root 0x1111.* in the ledger, and on the chain 0x"),
        (1, {"total_gwei": "7"}, "has the total 7 in the ledger"),
        (1, {"data_hash": "1" * 64}, "has the data hash 1111"),
        (0, {"state": "posted"}, "attempt 1 is active in the ledger, and was vetoed"),
        (1, {"state": "void"}, "attempt 2 is vetoed in the ledger, and was not"),
        (2, {"state": "posted"}, "and on the chain none"),
    ],
)
def test_differences(story: Story, place: int, change: dict[str, str], says: str) -> None:
    batches = story.listed
    batches[place] = batches[place].model_copy(update=change)
    with pytest.raises(RefusedError, match=says):
        story.check(batches)


def test_an_attempt_that_was_given_up_before_its_root_was_posted_is_not_taken_for_the_next_one(story: Story) -> None:
    """It pays the same to the same, so its root is the same too; what was posted has another data hash."""
    vetoed, active, pending = story.listed
    given_up = active.model_copy(update={"data_hash": "1" * 64, "state": "void"})
    assert story.check([vetoed, given_up, active, pending]) == RootsSeen(confirmed=2, not_posted=2, later=0)


def test_a_foreign_root_that_was_vetoed_is_no_difference(story: Story) -> None:
    deployed = story.setting.deployed
    deployed.post_root(b"\x55" * 32, deployed.distributor.total_gwei(), DATA_HASH)
    with pytest.raises(RefusedError, match=r"0x5555.* of batch 2 on the chain is not in the ledger"):
        story.check(story.listed)
    deployed.send(deployed.guardian, deployed.distributor.build_veto())
    assert story.check(story.listed) == RootsSeen(confirmed=2, not_posted=1, later=0)
    story.setting.deliver()
    story.setting.take_in()
    assert story.check(story.listed) == RootsSeen(confirmed=3, not_posted=0, later=0)


@pytest.mark.parametrize(
    "hide",
    [
        lambda batches: [*batches[:2], batches[2].model_copy(update={"root": "1" * 64})],
        lambda batches: [batches[0].model_copy(update={"root": "1" * 64, "state": "pending"})],
    ],
)
def test_a_root_that_no_ledger_leads_to(story: Story, hide: Callable[[list[PublicBatch]], list[PublicBatch]]) -> None:
    story.setting.deliver()
    with pytest.raises(RefusedError, match="on the chain is not in the ledger"):
        story.check(hide(story.listed))


def test_an_rpc_that_is_down(story: Story) -> None:
    with pytest.raises(UnreachableError, match="no Ethereum RPC answers"):
        roots_on_chain(connect("http://127.0.0.1:1"), story.setting.deployed.network)
