"""A ledger beside a simulated job: a real book with every node registered, its treasury, and a clock for the test."""

from __future__ import annotations

from pathlib import Path

from signed_world import PRICE_WEI, SignedWorld
from web3 import Web3

import unasked_network
from anynode.rounds.records import Record
from anynode_contracts.networks import Network
from anynode_ledger.batch import BatchState
from anynode_ledger.book import Book
from anynode_ledger.chain_log import Header, keep_block, mark_posted
from anynode_ledger.lapsing import REFUND_DELAY_S, SPARE_S, note_deadline, pass_time
from anynode_ledger.settlement import batches_of, resolve
from anynode_verifier.treasury import JobAccount, Treasury

VERIFIER = f"0x{77:040d}"
VERIFIER_INDEX = 50
BUDGET_WEI = 10**18
HELD_BACK_WEI = 10**13
DEADLINE_S = 1_000
LAPSED_S = DEADLINE_S + REFUND_DELAY_S - SPARE_S
NETWORK = unasked_network.NETWORK.model_copy(update={"held_back_limit_wei": HELD_BACK_WEI})


class Bank:
    """A book on SQLite with every node of a world registered, and a clock that the test moves."""

    def __init__(self, path: Path, world: SignedWorld, network: Network = NETWORK) -> None:
        self.book = Book.open(f"sqlite:///{path}", clock=lambda: self.now_s)
        self.world, self.network, self.now_s = world, network, 1_700_000_000.0
        self.drawn_at_s: int | None = None
        self._height = 0
        self.indices = {name: index for index, name in enumerate(world.accounts, 1)}
        self.treasury = self.restarted()

    def fill(self, *, without: str = "", budget_wei: int = BUDGET_WEI) -> Bank:
        self.book.register_node(VERIFIER_INDEX, VERIFIER, VERIFIER)
        for name, index in self.indices.items():
            if name != without:
                self.book.register_node(index, name, name)
        job = self.world.job
        self.book.open_job(
            job.job_id,
            owner=f"0x{905:040d}",
            budget_wei=job.pay.budget_wei,
            cap_per_batch_wei=job.pay.cap_per_batch_wei,
            price_wei_per_million_samples=PRICE_WEI * 10**6,
        )
        self.book.fund_job(job.job_id, budget_wei, "fund/1")
        return self

    def restarted(self) -> Treasury:
        """A treasury as after a start of the process: it knows nothing but the book."""
        return Treasury(
            self.book,
            self.network,
            VERIFIER,
            3_600.0,
            block_time_s=lambda _: self.drawn_at_s,
            clock=lambda: self.now_s,
        )

    def reach(self, time_s: int) -> None:
        """The chain has a final block of this time."""
        self._height += 1
        header = Header(self._height, f"{self._height:064x}", f"{self._height - 1:064x}", time_s)
        with self.book.write() as journal:
            keep_block(journal, Web3(), self.network.chain_id, header, [])
            mark_posted(journal, self.network.chain_id, header)

    def lapse(self) -> None:
        """The chain reaches the moment from which on the job's escrow pays nothing more that is not planned."""
        with self.book.write() as journal:
            note_deadline(journal, self.world.job.job_id, DEADLINE_S)
            pass_time(journal, 0, LAPSED_S)
        self.reach(LAPSED_S)

    def account(self, records: list[Record] | None = None) -> JobAccount:
        return JobAccount(self.world.job, list(self.world.records if records is None else records))

    def decide(self, outcome: BatchState) -> None:
        (stored,) = batches_of(self.book, newest=1)
        with self.book.write() as journal:
            resolve(journal, stored, outcome)

    def finish(self, account: JobAccount) -> None:
        """Advance until nothing moves any more; every root becomes active."""
        self.treasury.advance([account])
        self.now_s += self.network.window_s  # in which nobody appeals
        for _ in range(20):
            self.treasury.advance([account])
            if any(stored.state == "pending" for stored in batches_of(self.book)):
                self.decide("posted")

    def earned(self) -> dict[str, int]:
        return {node.node: node.earned_wei for node in self.book.nodes()}


def up_to(records: list[Record], kind: type, round_: int) -> list[Record]:
    """The records until the first of a kind in a round, with that."""
    place = next(i for i, r in enumerate(records) if isinstance(r.body, kind) and getattr(r.body, "round", 0) == round_)
    return records[: place + 1]
