"""Proves that debits = credits, that the trees are what the ledger says, and that the ledger is what the chain says."""

from __future__ import annotations

from dataclasses import dataclass

from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode_contracts.clients import DistributorClient, EscrowClient, RegistryClient, TokenClient
from anynode_contracts.entries import GWEI
from anynode_contracts.errors import InvariantError, RefusedError, UnreachableError
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Balances, Totals
from anynode_ledger.book import Book
from anynode_ledger.chain_log import posted_block
from anynode_ledger.public import public_ledger
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import StoredBatch, batches_of


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was proven, one sentence each, as of the last booked ``block``."""

    block: int
    proofs: tuple[str, ...]


def check(book: Book, w3: Web3, network: Network) -> Reconciliation:
    """Compare everything with everything, at the last block that is booked.

    Raises ``RefusedError`` naming the first difference, ``UnreachableError`` when the RPC does not answer.
    """
    balances, block = _fold_anew(book, network)
    proofs = [f"{balances.count} transfers: debits equal credits, assets equal liabilities"]
    batches = batches_of(book)
    rebuild(public_ledger(book).model_dump(mode="json"))
    proofs.append(f"{len(batches)} batches: every settlement, entry and root rebuilt from the transfers")
    if block < 0:
        raise RefusedError("no block of the chain is booked yet, so there is nothing to compare; run the intake first")
    try:
        proofs.append(_check_jobs(balances, EscrowClient(w3, network.escrow), block))
        proofs.append(_check_custody(balances, w3, network, block))
        proofs.append(_check_nodes(book, balances, w3, network, block))
        proofs.append(_check_roots(batches, DistributorClient(w3, network.distributor), block))
    except (RequestException, Web3Exception, OSError) as error:
        raise UnreachableError(
            f"the RPC at {network.rpc_url} does not answer, so the chain cannot be compared; start it and check again"
        ) from error
    return Reconciliation(block=block, proofs=tuple(proofs))


def _fold_anew(book: Book, network: Network) -> tuple[Balances, int]:
    """Balances from the rows alone, not from what the book has in memory."""
    balances = Balances()
    with book.read() as journal:
        try:
            for _, transfer in journal.transfers_after(0):
                balances.apply(transfer)
            balances.check()
        except InvariantError as error:
            raise RefusedError(f"the ledger does not add up: {error}") from error
        return balances, posted_block(journal, network.chain_id)


def _check_jobs(balances: Balances, escrow: EscrowClient, block: int) -> str:
    accounts = balances.of_kind("custody_escrow")
    for account in accounts:
        job_id = account.job_id or ""
        job = escrow.job(job_id, block=block)
        own = balances.totals[account.name]
        owed = balances.sum_wei("shortfall", job_id=job_id)
        _same(f"tokens funded for job {job_id}", own.debits, job.funded_wei if job else 0)
        _same(f"tokens in escrow for job {job_id}", own.debits - own.credits, job.remaining_wei if job else 0)
        if owed:
            raise RefusedError(
                f"job {job_id} was refunded {owed} wei that nodes had earned; fund the distributor with it, and settle"
                " before the deadline next time"
            )
    return f"{len(accounts)} jobs: funded, drawn and refunded as on the chain"


def _check_custody(balances: Balances, w3: Web3, network: Network, block: int) -> str:
    token = TokenClient(w3, network.token)
    held = balances.available_wei(chart.CUSTODY_DISTRIBUTOR)
    handed_over = balances.available_wei(chart.CUSTODY_WALLETS)
    _same(
        "tokens ever put into the distributor",
        held + handed_over,
        DistributorClient(w3, network.distributor).funded_wei(block=block),
    )
    for name, address, wei in (
        ("distributor", network.distributor, held),
        ("escrow", network.escrow, balances.sum_wei("custody_escrow")),
    ):
        # whoever wants to can send tokens to a contract without calling it, so there may be more
        found = token.balance_wei(address, block=block)
        if found < wei:
            raise RefusedError(
                f"the {name} holds {found} wei on the chain, the ledger says {wei} wei; stop and find out why"
            )
    return f"tokens: {held} wei in the distributor, {handed_over} wei handed over, as on the chain"


def _check_nodes(book: Book, balances: Balances, w3: Web3, network: Network, block: int) -> str:
    registry = RegistryClient(w3, network.registry)
    distributor = DistributorClient(w3, network.distributor)
    nodes = book.nodes()
    for node in nodes:
        own, payout = registry.contract.functions.infoOf(node.node_index).call(block_identifier=block)
        _same(f"the key of node {node.node_index}", node.node, own)
        _same(f"the payout address of node {node.node_index}", node.payout, payout)
        paid = balances.totals.get(chart.paid(node.node_index), Totals()).credits
        claimed = distributor.claimed_gwei(node.node_index, block=block) * GWEI
        _same(f"wei paid to node {node.node_index}", paid, claimed)
    return f"{len(nodes)} nodes: keys, payout addresses and claims as on the chain"


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
            raise RefusedError(
                f"root 0x{waiting.root.hex()} waits on the chain as batch {waiting.batch}, but it is not the ledger's;"
                " veto it and find out who posted it"
            )
    return "roots: active and waiting as in the ledger"


def _same(what: str, ledger: object, chain: object) -> None:
    if ledger != chain:
        raise RefusedError(f"{what}: the ledger says {ledger}, the chain says {chain}; stop settling and find out why")
