"""The intake against a real chain: only final blocks are booked, once; reorganisations are rewound."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from deployed import DATA_HASH, ROOT, Deployed
from ledger_setting import TOKEN, LedgerSetting
from web3.exceptions import Web3RPCError

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.clients import DistributorClient
from anynode_contracts.entries import pack
from anynode_contracts.errors import RefusedError, UserError
from anynode_ledger import chain_events, intake
from anynode_ledger.chain_log import newest_block
from anynode_ledger.intake import Intake
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle
from anynode_verifier.bookkeeping import Bookkeeping


def fund(setting: LedgerSetting, amount: int) -> None:
    deployed = setting.deployed
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.escrow.address, amount))
    deployed.send(deployed.owner, deployed.escrow.build_fund(setting.job_id, amount))


def funded(setting: LedgerSetting) -> int:
    return setting.book.job(setting.job_id).funded_wei


def test_only_final_blocks_are_booked(setting: LedgerSetting) -> None:
    setting.begin()
    fund(setting, TOKEN)
    slow = Intake(setting.book, setting.deployed.w3, setting.deployed.network, finality=3)
    status = slow.advance()
    assert (status.final, status.posted) == (status.head - 3, status.head - 2)  # begin() had booked more
    assert funded(setting) == 100 * TOKEN
    setting.deployed.anvil.mine(3)
    assert slow.advance().posted == status.head
    assert funded(setting) == 101 * TOKEN


def test_the_chains_own_finality(setting: LedgerSetting) -> None:
    setting.begin()
    fund(setting, TOKEN)
    own = Intake(setting.book, setting.deployed.w3, setting.deployed.network)
    own.advance()
    assert funded(setting) == 100 * TOKEN
    setting.deployed.anvil.mine(2)
    own.advance()
    assert funded(setting) == 101 * TOKEN


def test_a_reorganisation_is_rewound_and_leaves_nothing(setting: LedgerSetting) -> None:
    setting.begin()
    anvil = setting.deployed.anvil
    anvil.mine(4)
    careful = Intake(setting.book, setting.deployed.w3, setting.deployed.network, finality=6)
    fork = anvil.snapshot()
    fund(setting, 7)
    anvil.mine(2)
    former = careful.advance()
    anvil.revert(fork)
    fund(setting, 11)
    anvil.mine(3)  # longer than the former branch
    later = careful.advance()
    assert later.head == former.head + 1
    with setting.book.read() as journal:
        newest = newest_block(journal, 31337)
        assert newest is not None
        assert newest[0].hash == bytes(setting.deployed.w3.eth.get_block("latest")["hash"]).hex()
        events = journal.connection.exec_driver_sql("SELECT COUNT(*) FROM chain_events WHERE name = 'JobFunded'")
        assert events.scalar() == 1
    assert funded(setting) == 100 * TOKEN
    anvil.mine(6)
    careful.advance()
    assert funded(setting) == 100 * TOKEN + 11
    check(setting.book, setting.deployed.w3, setting.deployed.network)


def test_a_shorter_branch_is_rewound_too(setting: LedgerSetting) -> None:
    setting.begin()
    anvil = setting.deployed.anvil
    careful = Intake(setting.book, setting.deployed.w3, setting.deployed.network, finality=20)
    fork = anvil.snapshot()
    fund(setting, 7)
    anvil.mine(5)
    careful.advance()
    anvil.revert(fork)
    status = careful.advance()
    with setting.book.read() as journal:
        newest = newest_block(journal, 31337)
    assert newest is not None
    assert newest[0].number == status.head


def test_a_rewritten_final_block_stops_the_intake(setting: LedgerSetting) -> None:
    anvil = setting.deployed.anvil
    fork = anvil.snapshot()
    setting.begin()
    anvil.revert(fork)
    anvil.mine(30)
    with pytest.raises(RefusedError, match="which is booked as final") as caught:
        setting.intake().advance()
    assert "\n" not in str(caught.value)


def test_a_crash_while_booking_loses_and_repeats_nothing(
    setting: LedgerSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th event of the whole story, open the database again, and go on."""
    setting.begin()
    for amount in (1, 2, 3, 4):
        fund(setting, amount)
    whole = chain_events.book_event
    for survived in range(6):
        left = survived

        def dying(*arguments: object) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            whole(*arguments)  # type: ignore[arg-type]

        folder = setting.folder / str(survived)
        folder.mkdir()
        other = LedgerSetting(setting.deployed, folder, job_id=setting.job_id)
        monkeypatch.setattr(intake, "book_event", dying)
        with pytest.raises(KeyboardInterrupt):
            other.intake().advance()
        monkeypatch.setattr(intake, "book_event", whole)
        other.open()
        other.intake().advance()
        assert funded(other) == 100 * TOKEN + 10
        other.close()


def test_long_stretches_are_read_in_few_requests(setting: LedgerSetting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BLOCKS_PER_REQUEST", 7)
    deployed = setting.deployed
    setting.begin()
    for amount in (1, 2):
        deployed.anvil.mine(40)
        fund(setting, amount)
    folder = setting.folder / "late"
    folder.mkdir()
    late = LedgerSetting(deployed, folder, job_id=setting.job_id)
    requests: list[str] = []
    send = deployed.w3.provider.make_request
    monkeypatch.setattr(
        deployed.w3.provider, "make_request", lambda method, params: (requests.append(method), send(method, params))[1]
    )
    status = late.intake().advance()
    assert status.posted == status.head
    assert requests.count("eth_getLogs") < 20
    assert funded(late) == 100 * TOKEN + 3
    assert late.book.nodes() == setting.book.nodes()
    late.close()


def test_a_push_to_many_is_taken_in(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin(4)
    setting.earn(0, [TOKEN, 2 * TOKEN, 3 * TOKEN, 4 * TOKEN])
    batch = settle(setting.book, deployed.network)
    assert batch is not None
    setting.deliver()
    setting.take_in()
    words = [pack(entry) for entry in batch.entries]
    call = deployed.distributor.build_claim_subtree(words, batch.tree().subtree_proof(2, 0))
    deployed.send(deployed.verifier, call)
    setting.take_in()
    assert [setting.book.balances(index).paid_wei for index in setting.nodes] == [
        TOKEN,
        2 * TOKEN,
        3 * TOKEN,
        4 * TOKEN,
    ]
    check(setting.book, deployed.w3, deployed.network)


def test_a_chain_that_was_started_anew_holds_nothing_up(tmp_path: Path) -> None:
    """It has no state of the blocks before its start, with which they could be compared one by one."""
    arguments = ("--state", str(tmp_path / "chain.json"))
    with Anvil.start(find_anvil(ROOT), arguments=arguments) as first:
        setting = LedgerSetting(Deployed.on(first), tmp_path)
        setting.begin()
        for _ in range(3):
            fund(setting, TOKEN)
        head = first.w3.eth.block_number
    with Anvil.start(find_anvil(ROOT), arguments=arguments) as again:
        network = setting.deployed.network
        with pytest.raises(Web3RPCError, match="BlockOutOfRange"):
            DistributorClient(again.w3, network.distributor).funded_wei(block=head - 1)
        assert Intake(setting.book, again.w3, network, finality=0).advance().posted == head
        assert funded(setting) == 103 * TOKEN
        check(setting.book, again.w3, network)
    setting.close()


def test_a_root_becomes_active_with_time_alone(setting: LedgerSetting) -> None:
    setting.begin()
    setting.earn(0, [TOKEN, 0, 0])
    settle(setting.book, setting.deployed.network)
    setting.deliver()
    setting.take_in(pass_window=False)
    assert batches_of(setting.book)[-1].state == "pending"
    setting.take_in()
    assert batches_of(setting.book)[-1].state == "posted"


@pytest.fixture
def foreign(setting: LedgerSetting) -> LedgerSetting:
    """A batch is settled, and before its root was posted another one was, for its number."""
    setting.settle_all()
    setting.deployed.post_root(b"\x55" * 32, 0, DATA_HASH)
    return setting


def test_a_foreign_root_is_told_of_while_it_waits_and_its_veto_ends_that(
    foreign: LedgerSetting, caplog: pytest.LogCaptureFixture
) -> None:
    deployed, reading = foreign.deployed, foreign.intake()
    deployed.anvil.mine(3)
    for _ in range(2):
        status = reading.advance()
        assert status.posted == status.head
        assert f"root 0x{'55' * 32} of batch 1 on the chain is not the ledger's and will pay from" in status.warning
    assert caplog.text.count("have the guardian veto it before") == 1
    assert [status.state for status in foreign.deliver()] == ["waiting"] * 3
    deployed.send(deployed.guardian, deployed.distributor.build_veto())
    assert reading.advance().warning == ""
    assert foreign.deliver() == []
    foreign.take_in()
    assert [stored.state for stored in batches_of(foreign.book)] == ["posted"]
    check(foreign.book, deployed.w3, deployed.network)


def test_a_foreign_root_that_was_not_vetoed_stops_the_booking_once_it_pays(foreign: LedgerSetting) -> None:
    foreign.deployed.pass_window()
    for _ in range(2):
        with pytest.raises(
            RefusedError, match=r"batch 1 on the chain has the root 0x5555.* nobody has vetoed it in time"
        ):
            foreign.intake().advance()
    assert [stored.state for stored in batches_of(foreign.book)] == ["pending"]


def test_a_root_of_which_the_ledger_has_no_batch_is_told_of(
    setting: LedgerSetting, caplog: pytest.LogCaptureFixture
) -> None:
    setting.begin()
    setting.deployed.post_root(b"\x55" * 32, 0, DATA_HASH)
    assert "have the guardian veto it before" in setting.intake().advance().warning
    setting.deployed.pass_window()
    assert "restore the ledger from its newest copy" in setting.intake().advance().warning
    reader = Intake(setting.book, setting.deployed.w3, setting.deployed.network, finality=0, settles=False)
    assert reader.advance().warning == "", "without batches all roots would be foreign"


def test_the_status_tells_of_a_foreign_root(foreign: LedgerSetting) -> None:
    deployed = foreign.deployed
    bookkeeping = Bookkeeping(
        foreign.book,
        deployed.network,
        deployed.w3,
        node=deployed.verifier,
        poster=deployed.poster,
        root_signatures=deployed.sign_root,
        slasher=None,
        secret_of=lambda _job, _round: "",
        batch_interval_s=60.0,
    )
    bookkeeping._advance(list, list)
    assert "on the chain is not the ledger's and will pay from" in str(bookkeeping.status()["chain"])


def test_jobs_of_others_are_booked_too(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin()
    other = secrets.token_hex(32)
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.escrow.address, 9))
    create = deployed.escrow.build_create(other, budget_wei=9, cap_per_batch_wei=9, deadline_s=deployed.now_s + 86_400)
    deployed.send(deployed.owner, create)
    setting.take_in()
    assert setting.book.job(other).unspent_wei == 9
    check(setting.book, deployed.w3, deployed.network)


def test_a_wrong_chain_is_refused(setting: LedgerSetting) -> None:
    network = setting.deployed.network.model_copy(update={"chain_id": 1})
    with pytest.raises(UserError, match="wrong chain id"):
        Intake(setting.book, setting.deployed.w3, network).advance()
