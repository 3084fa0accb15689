"""The chart of accounts, and balances as a fold over immutable transfers. Pure: no database, no clock.

Assets say where the tokens lie on the chain (``custody``), liabilities whom they belong to. Every transfer has a
debit and a credit, so assets always equal liabilities. A pending transfer reserves its amount until a later row
posts or voids it (two-phase transfers, after TigerBeetle).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from anynode_contracts.errors import invariant

Phase = Literal["single", "pending", "post", "void"]

CUSTODY_DISTRIBUTOR = "custody_distributor"
CUSTODY_WALLETS = "custody_wallets"
GIFTS = "gifts"

# kind -> (side that increases it, parts of its name)
KINDS: dict[str, tuple[Literal["debit", "credit"], tuple[str, ...]]] = {
    "custody_escrow": ("debit", ("job",)),  # tokens of a job in JobEscrow
    "custody_distributor": ("debit", ()),  # tokens in RewardDistributor
    "custody_wallets": ("debit", ()),  # tokens that claims handed over
    "gifts": ("credit", ()),  # tokens that somebody put into RewardDistributor outside any job
    "shortfall": ("debit", ("job",)),  # the owner's again although already owed to nodes
    "escrow": ("credit", ("job",)),  # a job's money that nobody has earned; rounding remainders stay here
    "refundable": ("credit", ("job",)),  # in escrow, and nobody's but the owner's: it cannot be drawn any more
    "held_back": ("credit", ("node", "job")),
    "accrued": ("credit", ("node", "job")),
    "slashed": ("credit", ("node", "job")),  # passed through on the way back to the job
    "fees": ("credit", ("job",)),  # passed through on the way to whoever audits: what checking costs a job
    "payable": ("credit", ("node",)),  # in a root, in whole gwei
    "dust": ("credit", ("node",)),  # settled too, but below a gwei: in no root until it is one
    "paid": ("credit", ("node",)),
}

PASSED_THROUGH = ("slashed", "fees")

# reason -> allowed (debit kind, credit kind)
REASONS: dict[str, frozenset[tuple[str, str]]] = {
    "fund": frozenset({("custody_escrow", "escrow")}),
    "credit": frozenset({("escrow", "held_back"), ("escrow", "accrued"), ("fees", "held_back"), ("fees", "accrued")}),
    "fee": frozenset({("escrow", "fees")}),
    "slash": frozenset({("held_back", "slashed"), ("accrued", "slashed")}),
    "restore": frozenset({("slashed", "escrow")}),
    "reinstate": frozenset({("escrow", "held_back"), ("escrow", "accrued")}),  # a slash is taken back
    "repay": frozenset({("fees", "accrued")}),  # an upheld appeal costs what its replay cost, out of the slash
    "release": frozenset({("held_back", "accrued")}),
    "settle": frozenset({("accrued", "payable"), ("accrued", "dust"), ("dust", "payable")}),
    "draw": frozenset({("custody_distributor", "custody_escrow")}),
    "gift": frozenset({("custody_distributor", "gifts")}),
    "claim": frozenset({("payable", "paid")}),
    "hand_over": frozenset({("custody_wallets", "custody_distributor")}),
    "lapse": frozenset({("escrow", "refundable"), ("shortfall", "refundable")}),
    "refund": frozenset({("refundable", "custody_escrow")}),
}


@dataclass(frozen=True, slots=True)
class Account:
    """One account. Its name is ``kind[/node index][/job id]``."""

    kind: str
    node_index: int | None = None
    job_id: str | None = None

    def __post_init__(self) -> None:
        invariant(self.kind in KINDS, f"there is no account kind {self.kind!r}")
        parts = KINDS[self.kind][1]
        invariant(("node" in parts) == (self.node_index is not None), f"{self.kind}: node index misplaced")
        invariant(("job" in parts) == (self.job_id is not None), f"{self.kind}: job id misplaced")

    @property
    def name(self) -> str:
        return "/".join(str(part) for part in (self.kind, self.node_index, self.job_id) if part is not None)

    @property
    def increased_by(self) -> Literal["debit", "credit"]:
        return KINDS[self.kind][0]

    @classmethod
    def parse(cls, name: str) -> Account:
        """The account called ``name``. Raises ``InvariantError`` if no account can be called so."""
        kind, *rest = name.split("/")
        invariant(kind in KINDS and len(rest) == len(KINDS[kind][1]), f"{name[:100]!r} is no account")
        values = dict(zip(KINDS[kind][1], rest, strict=True))
        node = values.get("node")
        invariant(node is None or (node.isascii() and node.isdigit()), f"{name[:100]!r} has no node index")
        account = cls(kind, None if node is None else int(node), values.get("job"))
        invariant(account.name == name, f"{name[:100]!r} is written in another way than {account.name!r}")
        return account


def escrow(job_id: str) -> str:
    return f"escrow/{job_id}"


def custody_escrow(job_id: str) -> str:
    return f"custody_escrow/{job_id}"


def shortfall(job_id: str) -> str:
    return f"shortfall/{job_id}"


def refundable(job_id: str) -> str:
    return f"refundable/{job_id}"


def held_back(node_index: int, job_id: str) -> str:
    return f"held_back/{node_index}/{job_id}"


def accrued(node_index: int, job_id: str) -> str:
    return f"accrued/{node_index}/{job_id}"


def slashed(node_index: int, job_id: str) -> str:
    return f"slashed/{node_index}/{job_id}"


def fees(job_id: str) -> str:
    return f"fees/{job_id}"


def payable(node_index: int) -> str:
    return f"payable/{node_index}"


def dust(node_index: int) -> str:
    return f"dust/{node_index}"


def paid(node_index: int) -> str:
    return f"paid/{node_index}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One immutable row: ``amount_wei`` from the debited to the credited account, under a client-made ``id``.

    A ``post`` or ``void`` names the pending transfer it resolves and repeats its accounts and amount.
    """

    id: str
    debit: str
    credit: str
    amount_wei: int
    reason: str
    phase: Phase = "single"
    pending_id: str | None = None

    def record(self) -> dict[str, str | None]:
        """The public form: canonical JSON with the amount as a decimal string."""
        return {
            "id": self.id,
            "debit": self.debit,
            "credit": self.credit,
            "amount_wei": str(self.amount_wei),
            "reason": self.reason,
            "phase": self.phase,
            "pending_id": self.pending_id,
        }

    def resolved(self, phase: Literal["post", "void"]) -> Transfer:
        """The row that posts or voids this pending transfer."""
        return Transfer(f"{phase}/{self.id}", self.debit, self.credit, self.amount_wei, self.reason, phase, self.id)


@dataclass(slots=True)
class Totals:
    """What has moved through one account, in wei: posted, and reserved by pending transfers."""

    debits: int = 0
    credits: int = 0
    debits_pending: int = 0
    credits_pending: int = 0


@dataclass(slots=True)
class Balances:
    """Balances after a sequence of transfers. ``apply`` refuses whatever would break the books.

    ``committed[job]`` = credited less slashed; ``settled[job]`` = moved (or about to move) into payable;
    ``reinstated[node]`` = slashed and given back.
    """

    totals: dict[str, Totals] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    pending: dict[str, Transfer] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    of_node: dict[int, set[str]] = field(default_factory=dict)
    of_job: dict[str, set[str]] = field(default_factory=dict)
    count: int = 0
    reinstated: dict[int, int] = field(default_factory=dict)

    def apply(self, transfer: Transfer) -> None:
        """Fold in one transfer. Raises ``InvariantError`` naming what does not add up."""
        debit, credit = self._account(transfer.debit), self._account(transfer.credit)
        label = f"transfer {transfer.id[:160]!r}"
        invariant(transfer.amount_wei > 0, f"{label} moves {transfer.amount_wei} wei; amounts are positive")
        invariant(transfer.reason in REASONS, f"{label} has the unknown reason {transfer.reason[:40]!r}")
        invariant(
            (debit.kind, credit.kind) in REASONS[transfer.reason],
            f"{label}: {transfer.reason} never goes from {debit.kind} to {credit.kind}",
        )
        invariant(
            all(a == b for a, b in ((debit.job_id, credit.job_id),) if a is not None and b is not None)
            and (debit.node_index is None or credit.node_index in (None, debit.node_index)),
            f"{label} crosses jobs or nodes",
        )
        match transfer.phase:
            case "single":
                invariant(transfer.reason != "settle", f"{label}: a settlement is pending first")
                invariant(transfer.pending_id is None, f"{label} resolves nothing but names a pending transfer")
                self._reserve_checked(transfer, label)
                self.totals[transfer.debit].debits += transfer.amount_wei
                self.totals[transfer.credit].credits += transfer.amount_wei
            case "pending":
                invariant(transfer.pending_id is None, f"{label} is pending and names another pending transfer")
                self._reserve_checked(transfer, label)
                self.totals[transfer.debit].debits_pending += transfer.amount_wei
                self.totals[transfer.credit].credits_pending += transfer.amount_wei
                self.pending[transfer.id] = transfer
            case "post" | "void":
                self._resolve(transfer, label)
        self._count(transfer, debit, credit)
        self.count += 1

    def available_wei(self, name: str) -> int:
        """What may still leave the account: its posted balance less what pending transfers reserve."""
        totals = self.totals.get(name)
        if totals is None:
            return 0
        if self.accounts[name].increased_by == "credit":
            return totals.credits - totals.debits - totals.debits_pending
        return totals.debits - totals.credits - totals.credits_pending

    def of_kind(self, kind: str, *, job_id: str | None = None, node_index: int | None = None) -> list[Account]:
        """The accounts of a kind, in order of job and node."""
        if node_index is not None:
            names = self.of_node.get(node_index, set())
        elif job_id is not None:
            names = self.of_job.get(job_id, set())
        else:
            names = set(self.accounts)
        found = [self.accounts[name] for name in names if self.accounts[name].kind == kind]
        if job_id is not None:
            found = [account for account in found if account.job_id == job_id]
        return sorted(found, key=lambda account: (account.job_id or "", account.node_index or 0))

    def sum_wei(self, kind: str, *, job_id: str | None = None, node_index: int | None = None) -> int:
        """Available balance over the accounts of a kind."""
        return sum(self.available_wei(a.name) for a in self.of_kind(kind, job_id=job_id, node_index=node_index))

    def earned_wei(self, node_index: int) -> int:
        """Everything that ever entered (or is about to enter) the node's payable account: whole gwei."""
        totals = self.totals.get(payable(node_index), Totals())
        return totals.credits + totals.credits_pending

    def drawn_wei(self, job_id: str) -> int:
        """What has left the job's escrow for the distributor."""
        out, back = self.totals.get(custody_escrow(job_id), Totals()), self.totals.get(refundable(job_id), Totals())
        return out.credits - back.debits

    def drawable_wei(self, job_id: str) -> int:
        """What can be drawn from the job's escrow in all, earlier draws included: what has not lapsed of its money."""
        put_in, back = self.totals.get(custody_escrow(job_id), Totals()), self.totals.get(refundable(job_id), Totals())
        return put_in.debits - back.credits

    def undrawn_wei(self) -> dict[str, int]:
        """By job whose escrow pays nothing more, what was put in and not drawn."""
        ended = [account.job_id or "" for account in self.of_kind("refundable")]
        return {job_id: self.totals[custody_escrow(job_id)].debits - self.drawn_wei(job_id) for job_id in ended}

    def check(self) -> None:
        """Debits = credits, assets = liabilities, and what only passes through has gone on.

        Raises ``InvariantError`` otherwise.
        """
        debited = sum(totals.debits for totals in self.totals.values())
        credited = sum(totals.credits for totals in self.totals.values())
        invariant(debited == credited, f"the books are off: debits {debited} wei, credits {credited} wei")
        sides = {"debit": 0, "credit": 0}
        for name, account in self.accounts.items():
            totals = self.totals[name]
            sign = 1 if account.increased_by == "debit" else -1
            sides[account.increased_by] += sign * (totals.debits - totals.credits)
            invariant(
                account.kind not in PASSED_THROUGH or totals.debits == totals.credits,
                f"the books are off: {name} keeps {totals.credits - totals.debits} wei that should have gone on",
            )
        invariant(
            sides["debit"] == sides["credit"],
            f"the books are off: assets {sides['debit']} wei, liabilities {sides['credit']} wei",
        )

    def _account(self, name: str) -> Account:
        account = self.accounts.get(name)
        if account is None:
            account = Account.parse(name)
            self.accounts[name] = account
            self.totals[name] = Totals()
            if account.node_index is not None:
                self.of_node.setdefault(account.node_index, set()).add(name)
            if account.job_id is not None:
                self.of_job.setdefault(account.job_id, set()).add(name)
        return account

    def _reserve_checked(self, transfer: Transfer, label: str) -> None:
        for name, side in ((transfer.debit, "debit"), (transfer.credit, "credit")):
            if self.accounts[name].increased_by != side:
                available = self.available_wei(name)
                invariant(
                    available >= transfer.amount_wei,
                    f"{label} takes {transfer.amount_wei} wei out of {name}, which has {available} wei",
                )

    def _resolve(self, transfer: Transfer, label: str) -> None:
        pending_id = transfer.pending_id or ""
        invariant(pending_id in self.pending, f"{label} resolves {pending_id[:160]!r}, which is not pending")
        pending = self.pending.pop(pending_id)
        same = (pending.debit, pending.credit, pending.amount_wei, pending.reason)
        invariant(
            same == (transfer.debit, transfer.credit, transfer.amount_wei, transfer.reason),
            f"{label} differs from the pending transfer it resolves",
        )
        debit, credit = self.totals[transfer.debit], self.totals[transfer.credit]
        debit.debits_pending -= transfer.amount_wei
        credit.credits_pending -= transfer.amount_wei
        if transfer.phase == "post":
            debit.debits += transfer.amount_wei
            credit.credits += transfer.amount_wei

    def _count(self, transfer: Transfer, debit: Account, credit: Account) -> None:
        if transfer.reason in ("credit", "reinstate", "repay") and credit.job_id is not None:
            self.committed[credit.job_id] = self.committed.get(credit.job_id, 0) + transfer.amount_wei
            if transfer.reason == "reinstate" and credit.node_index is not None:
                back = self.reinstated.get(credit.node_index, 0)
                self.reinstated[credit.node_index] = back + transfer.amount_wei
        elif transfer.reason == "restore" and debit.job_id is not None:
            self.committed[debit.job_id] = self.committed.get(debit.job_id, 0) - transfer.amount_wei
        elif transfer.reason == "settle" and transfer.phase != "post" and debit.job_id is not None:
            sign = 1 if transfer.phase == "pending" else -1
            self.settled[debit.job_id] = self.settled.get(debit.job_id, 0) + sign * transfer.amount_wei
