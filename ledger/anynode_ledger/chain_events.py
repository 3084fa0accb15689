"""What each final event of the chain means in the book, in the transaction of its block.

Anybody may cause most of these events, with amounts of zero too: what moves no wei is not booked, and what does not fit
the book is a difference to look into, never the end of the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from anynode_contracts.errors import DifferenceError, InvariantError, RefusedError
from anynode_contracts.events import (
    ChainEvent,
    Claimed,
    Funded,
    JobCancelled,
    JobCreated,
    JobDrawn,
    JobFinalised,
    JobFunded,
    JobRefunded,
    PayoutChangeCancelled,
    PayoutChangeRequested,
    Registered,
    RootPosted,
    RootVetoed,
)
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Transfer
from anynode_ledger.journal import Journal
from anynode_ledger.lapsing import finalised, lapse, note_deadline
from anynode_ledger.registry import node_key, record_node
from anynode_ledger.settlement import book_claim, has_root, resolve, stored_batches


def book_event(journal: Journal, network: Network, event: ChainEvent) -> None:
    """Book one final event. Repeating it does nothing: its transfers are named by block hash and log index.

    Raises ``DifferenceError`` when the book has no place for it, as where an earlier event was left out.
    """
    at = event.position
    transfer_id = f"event/{network.chain_id}/{at.block_hash.hex()}/{at.log_index}"
    try:
        _book(journal, network, event, transfer_id)
    except InvariantError as error:
        what = type(event).__name__
        raise DifferenceError(f"the event {what} of block {at.block_number} does not fit the book: {error}") from error


def _book(journal: Journal, network: Network, event: ChainEvent, transfer_id: str) -> None:
    match event:
        case Registered():
            record_node(journal, event.index, event.node, event.payout)
        case JobCreated():
            _fund(journal, event.job.hex(), event.budget_wei, transfer_id)
            note_deadline(journal, event.job.hex(), event.deadline_s)
        case JobFunded():
            _fund(journal, event.job.hex(), event.amount_wei, transfer_id)
        case JobCancelled():
            note_deadline(journal, event.job.hex(), event.deadline_s)
        case JobFinalised():
            finalised(journal, event.job.hex())
        case JobDrawn():
            source = chart.custody_escrow(event.job.hex())
            _move(journal, Transfer(transfer_id, chart.CUSTODY_DISTRIBUTOR, source, event.amount_wei, "draw"))
        case Funded() if event.funder != network.escrow:
            _move(journal, Transfer(transfer_id, chart.CUSTODY_DISTRIBUTOR, chart.GIFTS, event.amount_wei, "gift"))
        case JobRefunded():
            _refund(journal, event.job.hex(), event.amount_wei, transfer_id)
        case RootVetoed():
            for stored in stored_batches(journal, newest=1):
                if stored.state == "pending" and bytes.fromhex(stored.batch.root) == event.root:
                    resolve(journal, stored, "void")
        case Claimed():
            for entry in event.entries:
                book_claim(journal, entry.index, entry.cumulative_gwei, f"{transfer_id}/{entry.index}")
        case _:
            pass  # says nothing about money: RootPosted and payout changes count when their time has come


def activate(journal: Journal, events: Iterable[ChainEvent], now_s: int) -> None:
    """Post the pending batch if its root has become active by ``now_s``. ``events`` = the distributor's, in order.

    Raises ``RefusedError`` when another root has: until then the guardian may veto it, and nothing is decided.
    """
    pending = [stored for stored in stored_batches(journal, newest=1) if stored.state == "pending"]
    if not pending:
        return
    stored = pending[-1]
    waiting: RootPosted | None = None
    for event in events:
        if isinstance(event, RootPosted) and event.batch == stored.batch.number:
            waiting = event
        elif isinstance(event, RootVetoed) and event.batch == stored.batch.number:
            waiting = None
    if waiting is None or waiting.active_at_s > now_s:
        return
    if waiting.root.hex() != stored.batch.root or waiting.data_hash.hex() != stored.batch.data_hash:
        raise RefusedError(
            f"batch {stored.batch.number} on the chain has the root 0x{waiting.root.hex()}, the ledger's is"
            f" 0x{stored.batch.root}, and nobody has vetoed it in time; find out who posted it, and"
            " restore the ledger from its newest copy"
        )
    resolve(journal, stored, "posted")


def foreign_root(journal: Journal, newest: ChainEvent | None, now_s: int) -> str:
    """What is to be said of a root on the chain that is not the ledger's, while it waits and after; else nothing.

    ``newest`` = the last event that a root was posted, or vetoed.
    """
    if not isinstance(newest, RootPosted):
        return ""
    if has_root(journal, newest.batch, newest.root.hex(), newest.data_hash.hex()):
        return ""
    what = f"root 0x{newest.root.hex()} of batch {newest.batch} on the chain is not the ledger's"
    since = f"{datetime.fromtimestamp(newest.active_at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if newest.active_at_s <= now_s:
        return f"{what} and pays since {since}; find out who posted it, and restore the ledger from its newest copy"
    return f"{what} and will pay from {since} on; have the guardian veto it before, and find out who posted it"


def change_payouts(journal: Journal, events: Iterable[ChainEvent], now_s: int) -> None:
    """Record payout changes whose wait is over by ``now_s``. ``events`` = the registry's so far, in order."""
    waiting: dict[int, PayoutChangeRequested] = {}
    for event in events:
        if isinstance(event, PayoutChangeRequested):
            waiting[event.index] = event
        elif isinstance(event, PayoutChangeCancelled):
            waiting.pop(event.index, None)
    for index, request in waiting.items():
        if request.effective_at_s <= now_s:
            record_node(journal, index, node_key(journal, index), request.payout)


def _fund(journal: Journal, job_id: str, amount_wei: int, transfer_id: str) -> None:
    _move(journal, Transfer(transfer_id, chart.custody_escrow(job_id), chart.escrow(job_id), amount_wei, "fund"))


def _refund(journal: Journal, job_id: str, amount_wei: int, transfer_id: str) -> None:
    """The owner has all that was left: also what was owed and not drawn, where the escrow did not wait for that."""
    if journal.has(transfer_id):
        return
    lapse(journal, job_id, "refund")
    _move(
        journal,
        Transfer(transfer_id, chart.refundable(job_id), chart.custody_escrow(job_id), amount_wei, "refund"),
    )


def _move(journal: Journal, transfer: Transfer) -> None:
    if transfer.amount_wei:
        journal.append(transfer)
