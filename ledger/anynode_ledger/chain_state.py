"""What the contracts hold after a block, compared with the events that the ledger has of them, and with its book.

Events alone are not believed: an RPC that leaves one out would never contradict itself. Where a node has no state any
more of the last block that is booked, its newest state is as good, less what the events since have done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from web3 import Web3

from anynode_contracts.clients import DistributorClient, RegistryClient, TokenClient
from anynode_contracts.entries import GWEI
from anynode_contracts.errors import DifferenceError
from anynode_contracts.events import (
    ChainEvent,
    Claimed,
    Funded,
    JobCreated,
    JobDrawn,
    JobFunded,
    JobRefunded,
    RootPosted,
    RootVetoed,
)
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Balances
from anynode_ledger.chain_log import count_events, events_of
from anynode_ledger.journal import Journal

MOVES: tuple[type[ChainEvent], ...] = (Funded, JobCreated, JobFunded, JobDrawn, JobRefunded, Claimed)
"""Events that come with tokens."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the events up to a block say: registrations, cancelled roots, and the newest root that was not, with its
    batch (0 and nothing before the first).
    """

    registered: int
    cancelled: int
    batch: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """What events have moved, in wei: into the distributor, into (or out of) the escrow, to those who claimed."""

    put_wei: int = 0
    escrow_wei: int = 0
    claimed_wei: int = 0


def told_by(journal: Journal, w3: Web3, chain_id: int, block: int) -> Told:
    """From the events that are stored up to a block."""
    roots: list[RootPosted] = []
    cancelled = 0
    for event in events_of(journal, w3, chain_id, (RootPosted, RootVetoed), block):
        if isinstance(event, RootPosted):
            roots.append(event)
        else:
            cancelled += 1
            roots = roots[:-1]
    newest = roots[-1] if roots else None
    registered = count_events(journal, chain_id, "Registered", block)
    return Told(registered, cancelled, newest.batch if newest else 0, newest.root if newest else b"")


def moved_by(balances: Balances, events: Iterable[ChainEvent]) -> Moved:
    """What events behind those that are booked have moved. ``events`` in order."""
    put = escrow = claimed = 0
    paid: dict[int, int] = {}
    for event in events:
        match event:
            case Funded():
                put += event.amount_wei
            case JobCreated():
                escrow += event.budget_wei
            case JobFunded():
                escrow += event.amount_wei
            case JobDrawn() | JobRefunded():
                escrow -= event.amount_wei
            case Claimed():
                for entry in event.entries:
                    former = paid.get(entry.index, balances.available_wei(chart.paid(entry.index)))
                    paid[entry.index] = entry.cumulative_gwei * GWEI
                    claimed += paid[entry.index] - former
    return Moved(put, escrow, claimed)


def check_told(told: Told, w3: Web3, network: Network, block: int) -> str:
    """Whether the contracts have after ``block`` what the events say. Raises ``DifferenceError``."""
    distributor, registry = DistributorClient(w3, network.distributor), RegistryClient(w3, network.registry)
    _same("nodes registered", told.registered, registry.count(block=block))
    _same("roots cancelled", told.cancelled, distributor.cancelled(block=block))
    _same("the number of the next batch", told.batch + 1, distributor.next_batch(block=block))
    newest = distributor.waiting_root(block=block) or distributor.active_root(block=block)
    _same("the newest root", told.root.hex(), newest.root.hex() if newest else "")
    return f"events: {told.registered} registrations, {told.batch} roots, {told.cancelled} cancelled, as on the chain"


def check_custody(balances: Balances, w3: Web3, network: Network, block: int, since: Moved | None = None) -> str:
    """Whether the contracts hold after ``block`` what the ledger says, and what was moved ``since`` its last booking.

    Raises ``DifferenceError``.
    """
    since = since or Moved()
    token, distributor = TokenClient(w3, network.token), DistributorClient(w3, network.distributor)
    held = balances.available_wei(chart.CUSTODY_DISTRIBUTOR)
    handed_over = balances.available_wei(chart.CUSTODY_WALLETS)
    put = held + handed_over + since.put_wei
    _same("tokens ever put into the distributor", put, distributor.funded_wei(block=block))
    # the bond lies there too and is in no ledger's accounts: left out, it would make up for what is missing
    bond_wei = distributor.bond_wei(block=block)
    for name, address, wei in (
        ("distributor", network.distributor, held + since.put_wei - since.claimed_wei + bond_wei),
        ("escrow", network.escrow, balances.sum_wei("custody_escrow") + since.escrow_wei),
    ):
        # whoever wants to can send tokens to a contract without calling it, so there may be more
        found = token.balance_wei(address, block=block)
        if found < wei:
            raise DifferenceError(
                f"the {name} holds {found} wei on the chain, {wei - found} wei less than it must; stop and find out why"
            )
    return f"tokens: {held} wei in the distributor, {handed_over} wei handed over, as on the chain"


def _same(what: str, told: object, found: object) -> None:
    if told != found:
        raise DifferenceError(
            f"{what}: the ledger says {told}, the chain says {found}; see that the RPC gives out all events since the"
            " network's deployed_block, and find out why"
        )
