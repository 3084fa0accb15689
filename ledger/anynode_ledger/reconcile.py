"""Proves that debits = credits, that the trees are what the ledger says, and that the ledger is what the chain says."""

from __future__ import annotations

from dataclasses import dataclass

from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception, Web3RPCError

from anynode_contracts.clients import DistributorClient, EscrowClient, RegistryClient
from anynode_contracts.entries import GWEI
from anynode_contracts.errors import DifferenceError, InvariantError, RefusedError, UnreachableError, UserError
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Balances, Totals
from anynode_ledger.book import Book
from anynode_ledger.chain_log import posted_block
from anynode_ledger.chain_state import Told, check_custody, check_told, told_by
from anynode_ledger.journal import Journal
from anynode_ledger.public import PublicLedger, PublicNode, public_rows
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import StoredBatch, stored_batches


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was proven, one sentence each, as of the last booked ``block``."""

    block: int
    proofs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The whole ledger at one moment: a verifier may go on booking meanwhile. ``block`` is the last that is booked."""

    balances: Balances
    block: int
    batches: list[StoredBatch]
    public: PublicLedger
    told: Told


def check(book: Book, w3: Web3 | None, network: Network) -> Reconciliation:
    """Compare everything with everything, at the last block that is booked; without ``w3`` all but the chain.

    Raises ``DifferenceError`` naming the first difference, ``UserError`` when no block is booked yet,
    ``UnreachableError`` when the RPC does not answer.
    """
    try:
        with book.read() as journal:
            seen = _look(journal, network, w3)
    except InvariantError as error:
        raise DifferenceError(f"the ledger does not add up: {error}") from error
    proofs = [f"{seen.balances.count} transfers: debits equal credits, assets equal liabilities"]
    _check_network(seen.batches, network)
    try:
        rebuild(seen.public.model_dump(mode="json"), network.daily_cap_gwei)
    except RefusedError as error:
        raise DifferenceError(str(error)) from error
    proofs.append(f"{len(seen.batches)} batches: every settlement, entry and root rebuilt from the transfers")
    proofs.append(_check_tree(seen))
    if w3 is None:
        return Reconciliation(block=seen.block, proofs=tuple(proofs))
    if seen.block < 0:
        raise UserError("no block of the chain is booked yet, so there is nothing to compare; run the intake first")
    try:
        proofs.append(_check_jobs(seen.balances, EscrowClient(w3, network.escrow), seen.block))
        proofs.append(check_custody(seen.balances, w3, network, seen.block))
        proofs.append(check_told(seen.told, w3, network, seen.block))
        proofs.append(_check_nodes(seen, w3, network))
        proofs.append(_check_roots(seen.batches, DistributorClient(w3, network.distributor), seen.block))
        _check_shortfalls(seen.balances)  # last: it stays for ever, and must hide nothing else
    except Web3RPCError as error:
        raise UnreachableError(
            f"the RPC at {network.rpc_shown} has no state of block {seen.block}, the last that is booked; check with"
            " one that keeps older states"
        ) from error
    except (RequestException, Web3Exception, OSError) as error:
        raise UnreachableError(
            f"the RPC at {network.rpc_shown} does not answer, so the chain cannot be compared; start it and check again"
        ) from error
    return Reconciliation(block=seen.block, proofs=tuple(proofs))


def _look(journal: Journal, network: Network, w3: Web3 | None) -> _Snapshot:
    """Balances come from the rows alone, not from what the book has in memory."""
    balances = Balances()
    for _, transfer in journal.transfers_after(0):
        balances.apply(transfer)
    balances.check()
    block = posted_block(journal, network.chain_id)
    told = told_by(journal, w3 or Web3(), network.chain_id, block)
    return _Snapshot(balances, block, stored_batches(journal), public_rows(journal), told)


def _check_network(batches: list[StoredBatch], network: Network) -> None:
    for stored in batches:
        own = (stored.batch.chain_id, stored.batch.distributor)
        if own != (network.chain_id, network.distributor):
            raise UserError(
                f"this ledger posts to {own[1]} on chain {own[0]}, which is not network {network.name}; name the"
                " network that it belongs to"
            )


def _check_tree(seen: _Snapshot) -> str:
    """The newest posted root says of every node what its accounts say: payable and paid together."""
    posted = [stored.batch for stored in seen.batches if stored.state == "posted"]
    listed = {entry.index: entry.cumulative_gwei * GWEI for entry in posted[-1].entries} if posted else {}
    for node in seen.public.nodes:
        claimable = seen.balances.totals.get(chart.payable(node.index), Totals())
        _same(f"wei ever payable to node {node.index}", claimable.credits, listed.get(node.index, 0), "the tree")
    return f"{len(listed)} entries of the newest root: what the ledger has payable and paid"


def _check_jobs(balances: Balances, escrow: EscrowClient, block: int) -> str:
    accounts = balances.of_kind("custody_escrow")
    for account in accounts:
        job_id = account.job_id or ""
        job = escrow.job(job_id, block=block)
        own = balances.totals[account.name]
        _same(f"tokens funded for job {job_id}", own.debits, job.funded_wei if job else 0)
        _same(f"tokens in escrow for job {job_id}", own.debits - own.credits, job.remaining_wei if job else 0)
    return f"{len(accounts)} jobs: funded, drawn and refunded as on the chain"


def _check_shortfalls(balances: Balances) -> None:
    owed = {account.job_id: balances.available_wei(account.name) for account in balances.of_kind("shortfall")}
    short = [f"job {job_id} has ended with {wei} wei" for job_id, wei in owed.items() if wei]
    if short:
        raise DifferenceError(
            f"{', '.join(short)} that nodes had earned and nobody has drawn, which are the owner's again; all else is"
            " as on the chain; settle within 29 days of the deadline next time"
        )


def _check_nodes(seen: _Snapshot, w3: Web3, network: Network) -> str:
    registry = RegistryClient(w3, network.registry)
    distributor = DistributorClient(w3, network.distributor)
    for node in seen.public.nodes:
        own, payout = registry.contract.functions.infoOf(node.index).call(block_identifier=seen.block)
        _same(f"the key of node {node.index}", node.node, own)
        _same(f"the payout address of node {node.index}", _payout(node), payout)
        paid = seen.balances.totals.get(chart.paid(node.index), Totals()).credits
        claimed = distributor.claimed_gwei(node.index, block=seen.block) * GWEI
        _same(f"wei paid to node {node.index}", paid, claimed)
    return f"{len(seen.public.nodes)} nodes: keys, payout addresses and claims as on the chain"


def _payout(node: PublicNode) -> str:
    return node.payouts[-1].payout


def _check_roots(batches: list[StoredBatch], distributor: DistributorClient, block: int) -> str:
    posted = [stored.batch for stored in batches if stored.state == "posted"]
    active = distributor.active_root(block=block)
    _same(
        "the active root",
        (posted[-1].number, posted[-1].root) if posted else (0, ""),
        (active.batch, active.root.hex()) if active else (0, ""),
    )
    waiting = distributor.waiting_root(block=block)
    if waiting is not None:
        pending = {(stored.batch.number, stored.batch.root) for stored in batches if stored.state == "pending"}
        if (waiting.batch, waiting.root.hex()) not in pending:
            raise DifferenceError(
                f"root 0x{waiting.root.hex()} waits on the chain as batch {waiting.batch}, but it is not the ledger's;"
                " veto it and find out who posted it"
            )
    return "roots: active and waiting as in the ledger"


def _same(what: str, ledger: object, other: object, whose: str = "the chain") -> None:
    if ledger != other:
        raise DifferenceError(f"{what}: the ledger says {ledger}, {whose} says {other}; stop settling and find out why")
