"""A ledger beside a real chain: a book that can be reopened, its outbox and intake, nodes and a funded job."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployed import Deployed
from eth_account.signers.local import LocalAccount
from web3 import Web3

from anynode_contracts import events
from anynode_contracts.entries import pack
from anynode_ledger.book import Book
from anynode_ledger.finality import Finality
from anynode_ledger.intake import Intake
from anynode_ledger.intents import Intent, IntentState, IntentStatus, Signed, signed_for
from anynode_ledger.outbox import Outbox
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle

TOKEN = 10**18


@dataclass
class LedgerSetting:
    """``now_s`` is the ledger's clock, which only the test moves. The head of the chain counts as final.

    The database is a SQLite file in ``folder``, unless there is a ``url``.
    """

    deployed: Deployed
    folder: Path
    budget_wei: int = 100 * TOKEN
    now_s: int = 1_700_000_000
    nodes: dict[int, LocalAccount] = field(default_factory=dict)
    books: list[Book] = field(default_factory=list)
    job_id: str = field(default_factory=lambda: secrets.token_hex(32))
    url: str = ""

    def __post_init__(self) -> None:
        self.url = self.url or f"sqlite:///{self.folder / 'ledger.sqlite'}"
        self.open()

    @property
    def book(self) -> Book:
        return self.books[-1]

    def open(self) -> Book:
        """Open the database anew, as after a crash."""
        self.books.append(Book.open(self.url, clock=lambda: self.now_s))
        return self.book

    def close(self) -> None:
        for book in self.books:
            book.close()

    def intake(self) -> Intake:
        return Intake(self.book, self.deployed.w3, self.deployed.network, finality=0)

    def outbox(
        self,
        on_step: Callable[[Intent, IntentState], None] | None = None,
        *,
        w3: Web3 | None = None,
        finality: Finality = 0,
        **settings: int,
    ) -> Outbox:
        """The poster's, over its own connection to the chain where a test has one."""
        deployed = self.deployed
        return Outbox(
            self.book,
            w3 or deployed.w3,
            deployed.poster,
            deployed.sign_root,
            on_step=on_step,
            finality=finality,
            **settings,  # type: ignore[arg-type]
        )

    def begin(self, nodes: int = 3) -> None:
        """Register nodes and create the job, all on the chain, and take it in."""
        deployed = self.deployed
        for _ in range(nodes):
            node = deployed.account()
            deployed.send(node, deployed.registry.build_register(node.address))
            index = deployed.registry.index_of(node.address)
            assert index is not None
            self.nodes[index] = node
        deployed.send(deployed.owner, deployed.token.build_approve(deployed.escrow.address, self.budget_wei))
        create = deployed.escrow.build_create(
            self.job_id,
            budget_wei=self.budget_wei,
            cap_per_batch_wei=self.budget_wei,
            deadline_s=deployed.now_s + 86_400,
        )
        deployed.send(deployed.owner, create)
        self.intake().advance()

    def earn(self, round_number: int, amounts: Sequence[int], limit_wei: int = 0) -> None:
        """Credit the nodes, in order of index, with these amounts."""
        earned = [
            Credit(
                credit_id(self.job_id, round_number, index, "samples"),
                self.job_id,
                round_number,
                index,
                "samples",
                amount,
            )
            for index, amount in zip(self.nodes, amounts, strict=True)
            if amount
        ]
        self.book.credit(earned, limit_wei)

    def deliver(self) -> list[IntentStatus]:
        """Advance the outbox as long as it makes progress; what is still open."""
        outbox, former = self.outbox(), None
        while (left := outbox.advance()) and left != former:
            former = left
        return left

    def take_in(self, *, pass_window: bool = True) -> None:
        if pass_window:
            self.deployed.pass_window()
        self.intake().advance()

    def claim(self, index: int) -> None:
        """Claim what the newest posted batch has for the node."""
        batch = next(one.batch for one in reversed(batches_of(self.book)) if one.state == "posted")
        position = [entry.index for entry in batch.entries].index(index)
        call = self.deployed.distributor.build_claim(pack(batch.entries[position]), batch.tree().proof(position))
        self.deployed.send(self.nodes[index], call)

    def balance_wei(self, index: int) -> int:
        return self.deployed.token.balance_wei(self.nodes[index].address)

    def settle_all(self) -> None:
        """One batch that pays three nodes and ends the job, and nothing sent of it yet."""
        self.begin()
        self.earn(0, [3 * TOKEN, 2 * TOKEN, TOKEN])
        self.book.close_job(self.job_id)
        assert settle(self.book, self.deployed.network) is not None

    def signed(self, status: IntentStatus) -> list[Signed]:
        """Every transaction signed for the intent."""
        with self.book.read() as journal:
            return signed_for(journal, status.id)

    def sent_once(self) -> None:
        """One draw, one finalisation, one root on the chain, all of them right, and the book right about them."""
        deployed, network = self.deployed, self.deployed.network
        found = events.fetch_events(
            deployed.w3,
            [network.escrow, network.distributor],
            from_block=network.deployed_block,
            to_block=deployed.w3.eth.block_number,
        )
        kinds = (events.JobDrawn, events.JobFinalised, events.RootPosted)
        assert [type(event) for event in found if isinstance(event, kinds)] == list(kinds)
        self.take_in()
        check(self.book, deployed.w3, network)
