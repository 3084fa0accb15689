"""Plays an example of docs/pay.md on a fresh book, with the code that pays real work, and compares every figure."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from eth_utils.address import to_checksum_address
from ledger_actors import address, decide

from anynode_contracts.entries import GWEI, Entry
from anynode_contracts.events import (
    ChainEvent,
    Claimed,
    JobCancelled,
    JobCreated,
    JobDrawn,
    JobRefunded,
    LogPosition,
)
from anynode_ledger.book import Book
from anynode_ledger.chain_events import book_event
from anynode_ledger.earning import last_release
from anynode_ledger.lapsing import pass_time
from anynode_ledger.pay import Credit, MemberWork, granted_pay, replay_pay, round_pay
from anynode_ledger.settlement import batches_of, settle
from unasked_network import NETWORK

UNITS = {"ANY": 10**18, "gwei": GWEI, "wei": 1}
NODES = range(1, 10)
DAY_S = 24 * 3600
DEADLINE_S = 100 * DAY_S
OWNER = to_checksum_address(address(7))
_AMOUNT = r"([\d,.]+ (?:ANY|gwei|wei)|nothing)"
_WORK = r"([\d,]+) samples, (?:(\d+) of (\d+) chunks delivered, ([\d,]+) bytes reduced|nobody to deliver to)"


def wei(text: str) -> int:
    """Of ``1,000 ANY``, ``0.5 gwei``, ``nothing``."""
    if text == "nothing":
        return 0
    number, unit = text.split(" ")
    amount = Fraction(number.replace(",", "")) * UNITS[unit]
    assert amount.denominator == 1, f"{text} has a part of a wei"
    return int(amount)


class Example:
    """One example: ``play`` takes its lines in order, and fails at the first figure that is not so."""

    def __init__(self) -> None:
        self.book = Book.open("sqlite://", clock=lambda: 0)
        for index in NODES:
            self.book.register_node(index, address(index), address(100 + index))
        self.held_back_wei, self.network = 0, NETWORK
        self.prices: dict[str, int] = {}
        self.round, self.job = 0, ""
        self.members: list[MemberWork] = []
        self.auditors: dict[int, int] = {}
        self.granted: list[Credit] | None = None
        self.events, self.now_s = 0, 0
        self.statements: tuple[tuple[str, Callable[..., None]], ...] = (
            (
                f"job ([AB]): {_AMOUNT} in escrow, {_AMOUNT} for a million samples(?:, at most {_AMOUNT} a batch)?",
                self.open,
            ),
            (f"held back: the first {_AMOUNT} of a node", self.hold_back),
            (f"daily cap: {_AMOUNT}", self.cap),
            (r"round (\d+) of ([AB])", self.begin),
            (f"node (\\d): {_WORK}", self.work),
            (r"node (\d) audits (\d+) steps", self.audit),
            (r"earned: (.+)", self.earned),
            (f"slash node (\\d) in ([AB]): {_AMOUNT}", self.slash),
            (f"granted: node (\\d), {_WORK}", self.grant),
            (f"given back: {_AMOUNT}", self.given_back),
            (f"upheld: node (\\d), the replay of ([\\d,]+) samples is paid to node (\\d): {_AMOUNT}", self.uphold),
            (r"settle: (.+)", self.settle),
            (r"root (active|vetoed)", self.decide),
            (f"claim node (\\d): {_AMOUNT}", self.claim),
            (f"close ([AB]): {_AMOUNT} released", self.close),
            (f"release ([AB]): {_AMOUNT} released", self.release),
            (r"cancel ([AB])", self.cancel),
            (r"(\d+) days pass", self.wait),
            (f"refund ([AB]): {_AMOUNT}", self.refund),
            (r"node (\d) has: (.+)", self.node_has),
            (r"job ([AB]) has: (.+)", self.job_has),
            (f"missing in ([AB]): {_AMOUNT}", self.missing),
        )

    def play(self, line: str) -> None:
        for pattern, does in self.statements:
            if found := re.fullmatch(pattern, line):
                does(*found.groups())
                self.book.totals()  # proves that debits equal credits
                return
        raise AssertionError(f"no statement: {line!r}")

    # ------------------------------------------------------------ what happens

    def open(self, name: str, budget: str, price: str, cap: str | None) -> None:
        self.prices[name] = wei(price)
        self.happens(
            JobCreated(self.position(), bytes.fromhex(job_id(name)), OWNER, wei(budget), wei(cap or budget), DEADLINE_S)
        )
        self.book.open_job(
            job_id(name),
            owner=OWNER,
            budget_wei=wei(budget),
            cap_per_batch_wei=wei(cap or budget),
            price_wei_per_million_samples=wei(price),
        )

    def hold_back(self, limit: str) -> None:
        self.held_back_wei = wei(limit)

    def cap(self, most: str) -> None:
        self.network = NETWORK.model_copy(update={"daily_cap_gwei": wei(most) // GWEI})

    def begin(self, number: str, name: str) -> None:
        self.round, self.job, self.members, self.auditors = int(number), name, [], {}

    def work(self, *found: str | None) -> None:
        self.members.append(work_of(*found))

    def audit(self, index: str, steps: str) -> None:
        self.auditors[int(index)] = int(steps)

    def earned(self, said: str) -> None:
        """The credits, all of them, which are booked then."""
        found, self.granted = self.granted, None
        if found is None:
            found = round_pay(job_id(self.job), self.round, self.prices[self.job], self.members, self.auditors)
        listed = [] if said == "nothing" else [part.split(" ", 3) for part in said.split("; ")]
        expected = {(int(index), kind): wei(amount) for _, index, kind, amount in listed}
        assert {(one.node_index, one.kind): one.amount_wei for one in found} == expected
        assert self.book.credit(found, self.held_back_wei) == sum(expected.values())

    def slash(self, index: str, name: str, taken: str) -> None:
        assert self.book.slash(int(index), job_id(name), "a replay differs", self.slash_id(index, name)) == wei(taken)

    def grant(self, *found: str | None) -> None:
        self.granted = granted_pay(job_id(self.job), self.round, self.prices[self.job], work_of(*found))
        self.appellant = str(found[0])

    def given_back(self, amount: str) -> None:
        slash_id = self.slash_id(self.appellant, self.job)
        assert self.book.reinstate(int(self.appellant), job_id(self.job), slash_id) == wei(amount)

    def uphold(self, index: str, samples: str, auditor: str, paid: str) -> None:
        cost_wei = replay_pay(count(samples), self.prices[self.job])
        slash_id = self.slash_id(index, self.job)
        assert self.book.repay(int(auditor), job_id(self.job), slash_id, cost_wei) == wei(paid)

    def settle(self, said: str) -> None:
        batch = settle(self.book, self.network)
        assert batch is not None
        entries, draws = {}, {}
        for part in said.split("; "):
            if found := re.fullmatch(f"node (\\d) {_AMOUNT}", part):
                entries[int(found[1])] = wei(found[2])
            else:
                found = re.fullmatch(f"drawn from ([AB]) {_AMOUNT}", part)
                assert found, part
                draws[job_id(found[1])] = wei(found[2])
        assert {entry.index: entry.cumulative_gwei * GWEI for entry in batch.entries} == entries
        assert batch.draws == draws
        for drawn, amount_wei in draws.items():
            self.happens(JobDrawn(self.position(), bytes.fromhex(drawn), batch.number, amount_wei))

    def decide(self, outcome: str) -> None:
        decide(self.book, "posted" if outcome == "active" else "void")

    def claim(self, index: str, amount: str) -> None:
        posted = [stored.batch for stored in batches_of(self.book) if stored.state == "posted"][-1]
        (entry,) = (entry for entry in posted.entries if entry.index == int(index))
        before = self.book.balances(int(index)).paid_wei
        self.happens(Claimed(self.position(), (Entry(entry.index, entry.account, entry.cumulative_gwei),)))
        assert self.book.balances(int(index)).paid_wei - before == wei(amount)

    def close(self, name: str, released: str) -> None:
        assert self.book.close_job(job_id(name)) == wei(released)

    def release(self, name: str, released: str) -> None:
        assert self.book.release(job_id(name), last_release(job_id(name))) == wei(released)

    def cancel(self, name: str) -> None:
        self.happens(JobCancelled(self.position(), bytes.fromhex(job_id(name)), self.now_s))

    def wait(self, days: str) -> None:
        with self.book.write() as journal:
            pass_time(journal, self.now_s, self.now_s + int(days) * DAY_S)
        self.now_s += int(days) * DAY_S

    def refund(self, name: str, amount: str) -> None:
        assert self.book.job(job_id(name)).in_escrow_wei == wei(amount), "a refund is of all that is left"
        self.happens(JobRefunded(self.position(), bytes.fromhex(job_id(name)), OWNER, wei(amount)))

    # ------------------------------------------------------------ what is so then

    def node_has(self, index: str, said: str) -> None:
        balance = self.book.balances(int(index))
        for name, amount in named(said):
            assert getattr(balance, f"{name}_wei") == wei(amount), name

    def job_has(self, name: str, said: str) -> None:
        balance = self.book.job(job_id(name))
        for part, amount in named(said):
            assert getattr(balance, f"{part}_wei") == wei(amount), part

    def missing(self, name: str, amount: str) -> None:
        with self.book.read() as journal:
            assert journal.balances.sum_wei("shortfall", job_id=job_id(name)) == wei(amount)

    # ------------------------------------------------------------ the chain

    def happens(self, event: ChainEvent) -> None:
        with self.book.write() as journal:
            book_event(journal, NETWORK, event)

    def position(self) -> LogPosition:
        self.events += 1
        return LogPosition(1, b"\1" * 32, b"\2" * 32, self.events)

    def slash_id(self, index: str, name: str) -> str:
        return f"{job_id(name)}/{self.round}/{index}"


def named(said: str) -> list[tuple[str, str]]:
    """``held back 1 ANY, accrued nothing`` as (held_back, 1 ANY), (accrued, nothing)."""
    parts = [re.fullmatch(f"([a-z ]+?) {_AMOUNT}", part) for part in said.split(", ")]
    return [(part[1].replace(" ", "_"), part[2]) for part in parts if part]


def work_of(*found: str | None) -> MemberWork:
    index, samples, delivered, due, reduced = (count(text or "0") for text in found)
    return MemberWork(index, samples, delivered, due, reduced)


def count(text: str) -> int:
    return int(text.replace(",", ""))


def job_id(name: str) -> str:
    return {"A": "a", "B": "b"}[name] * 64
