"""Random lives of a ledger: whatever happens, the books balance, nobody's total falls, and the public file rebuilds."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_actors import JOB, OTHER_JOB, decide, pay, public
from postgresql_server import Server

from anynode_contracts.entries import GWEI
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Transfer
from anynode_ledger.book import Book
from anynode_ledger.earnings import job_earnings
from anynode_ledger.lapsing import finalised
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import batches_of, book_claim, settle
from unasked_network import NETWORK

JOBS = (JOB, OTHER_JOB)
NODES = (1, 2, 3, 4)
LIMIT = 3 * GWEI
amounts = st.one_of(st.integers(1, GWEI), st.integers(1, 20 * GWEI), st.just(10**21 + 1))
jobs, nodes = st.sampled_from(JOBS), st.sampled_from(NODES)


class LedgerLife(RuleBasedStateMachine):
    def open(self) -> Book:
        return Book.open("sqlite://", clock=lambda: 0)

    @initialize(
        caps=st.tuples(st.integers(5 * GWEI, 10**22), st.none()),
        daily_cap_gwei=st.one_of(st.integers(1, 100), st.just(10**16)),
    )
    def begin(self, caps: tuple[int, int | None], daily_cap_gwei: int) -> None:
        self.book = self.open()
        self.network = NETWORK.model_copy(update={"held_back_limit_wei": LIMIT, "daily_cap_gwei": daily_cap_gwei})
        self.round = 0
        self.closed: set[str] = set()
        self.highest: dict[int, int] = {}
        self.drawn = 0
        self.lapsed: set[str] = set()
        self.slashed: dict[str, int] = {}
        for index in NODES:
            self.book.register_node(index, f"0x{index:040d}", f"0x{100 + index:040d}")
        for job_id, cap in zip(JOBS, caps, strict=True):
            self.book.fund_job(job_id, 10**24, f"fund/{job_id}")
            if cap is not None:
                self.book.open_job(
                    job_id,
                    owner=f"0x{7:040d}",
                    budget_wei=10**24,
                    cap_per_batch_wei=cap,
                    price_wei_per_million_samples=1,
                )

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self.earnings_add_up()
            self.book.close()

    def earnings_add_up(self) -> None:
        """At the end of a life, because it reads the whole of it."""
        for job_id in JOBS:
            with self.book.read() as journal:
                shares = job_earnings(journal, job_id).shares
            for share in shares:
                earned = share.samples_wei + share.reducing_wei + share.audits_wei + share.replays_wei
                assert earned - share.slashed_wei == share.held_back_wei + share.accrued_wei + share.in_roots_wei
            kept = sum(share.held_back_wei + share.accrued_wei + share.in_roots_wei for share in shares)
            assert self.book.job(job_id).credited_wei == kept

    @rule(job_id=jobs, parts=st.dictionaries(nodes, amounts, min_size=1))
    def earn(self, job_id: str, parts: dict[int, int]) -> None:
        if job_id in self.closed | self.lapsed:
            return
        self.round += 1
        earned = [pay(node, self.round, amount, job_id) for node, amount in parts.items()]
        assert self.book.credit(earned, LIMIT) == sum(parts.values())
        assert self.book.credit(earned, LIMIT) == 0

    @rule(job_id=jobs, node=nodes)
    def slash(self, job_id: str, node: int) -> None:
        self.round += 1
        unspent = self.book.job(job_id).unspent_wei
        taken = self.book.slash(node, job_id, "caught", f"slash/{self.round}")
        self.slashed[job_id] = self.slashed.get(job_id, 0) + taken
        assert self.book.job(job_id).unspent_wei == unspent + taken

    @rule(job_id=jobs)
    def release(self, job_id: str) -> None:
        self.round += 1
        self.book.release(job_id, f"release/{self.round}")

    @rule(job_id=jobs)
    def close(self, job_id: str) -> None:
        self.closed.add(job_id)
        self.book.close_job(job_id)

    @rule(job_id=jobs)
    def lapse(self, job_id: str) -> None:
        """The escrow pays nothing more, but for what is planned to be drawn; that may have been drawn or not."""
        self.lapsed.add(job_id)
        with self.book.write() as journal:
            finalised(journal, job_id)

    @rule(node=nodes, payout=st.integers(200, 203))
    def move_payout(self, node: int, payout: int) -> None:
        self.book.register_node(node, f"0x{node:040d}", f"0x{payout:040d}")

    def _is_pending(self) -> bool:
        batches = batches_of(self.book)
        return bool(batches) and batches[-1].state == "pending"

    @precondition(lambda self: not self._is_pending())
    @rule()
    def settle(self) -> None:
        batch = settle(self.book, self.network)
        if batch is None:
            return
        assert batch.total_gwei - sum(self.highest.values()) <= self.network.daily_cap_gwei
        for job_id, amount in batch.draws.items():
            self.drawn += amount
            source = chart.custody_escrow(job_id)
            with self.book.write() as journal:
                transfer_id = f"draw/{job_id}/{batch.number}.{batch.attempt}"
                journal.append(Transfer(transfer_id, chart.CUSTODY_DISTRIBUTOR, source, amount, "draw"))
        assert batch.total_gwei * GWEI <= self.drawn  # the root is funded before it is posted

    @precondition(lambda self: self._is_pending())
    @rule(veto=st.booleans())
    def decide(self, veto: bool) -> None:
        stored = batches_of(self.book)[-1]
        decide(self.book, "void" if veto else "posted")
        decide(self.book, "void" if veto else "posted")
        if not veto:
            for entry in stored.batch.entries:
                assert entry.cumulative_gwei >= self.highest.get(entry.index, 0)
                self.highest[entry.index] = entry.cumulative_gwei
            assert set(self.highest) == {entry.index for entry in stored.batch.entries}

    @rule(node=nodes)
    def claim(self, node: int) -> None:
        cumulative = self.highest.get(node, 0)
        if cumulative * GWEI > self.book.balances(node).paid_wei:
            with self.book.write() as journal:
                book_claim(journal, node, cumulative, f"claim/{node}/{cumulative}")
            assert self.book.balances(node).paid_wei == cumulative * GWEI

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "book"):
            return
        totals = self.book.totals()
        assert all(amount >= 0 for amount in totals.values())
        for node in self.book.nodes():
            parts = (node.held_back_wei, node.accrued_wei, node.waiting_wei, node.payable_wei, node.paid_wei)
            assert sum(parts) + node.dust_wei == node.earned_wei
            assert node.held_back_wei <= LIMIT
            assert node.payable_wei + node.paid_wei == self.highest.get(node.node_index, 0) * GWEI
            assert node.dust_wei < GWEI
        for job_id in JOBS:
            job = self.book.job(job_id)
            assert job.funded_wei + job.missing_wei == job.unspent_wei + job.credited_wei + job.refundable_wei
            assert job.funded_wei == 10**24
            assert job.drawn_wei - job.credited_wei <= self.slashed.get(job_id, 0), "what docs/pay.md says is the most"

    @invariant()
    def the_public_file_rebuilds(self) -> None:
        if not hasattr(self, "book"):
            return
        assert rebuild(public(self.book), self.network.daily_cap_gwei) == [
            stored.batch for stored in batches_of(self.book)
        ]


TestLedgerLife = LedgerLife.TestCase
TestLedgerLife.settings = settings(max_examples=15, stateful_step_count=25, deadline=None, derandomize=True)


@pytest.mark.deep
def test_the_same_lives_on_a_server(postgresql: Server, migrated: str) -> None:
    class OnServer(LedgerLife):
        def open(self) -> Book:
            return Book.open(postgresql.url(postgresql.create(migrated)), clock=lambda: 0)

    run_state_machine_as_test(OnServer, settings=TestLedgerLife.settings)  # type: ignore[no-untyped-call]
