"""Events that a stranger may cause, with the worst values that the contracts let through: none stops the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from eth_utils.address import to_checksum_address
from ledger_actors import JOB, TOKEN, address, decide, pay, public

from anynode_contracts import events
from anynode_contracts.entries import Entry
from anynode_contracts.errors import DifferenceError, RefusedError
from anynode_contracts.events import ChainEvent, LogPosition
from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.chain_events import book_event
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import settle

AMOUNTS = (0, 1, 2**128 - 1)
STRANGER = to_checksum_address(address(999))
UNKNOWN_JOB = b"\xee" * 32
UNKNOWN_NODE = 2**32 - 1
POSITIONS = itertools.count()


def at() -> LogPosition:
    return LogPosition(1, b"\1" * 32, b"\2" * 32, next(POSITIONS))


def from_strangers(network: Network) -> Iterator[ChainEvent]:
    """What anybody can make the contracts emit: of jobs that nobody here knows, in amounts from nothing to all."""
    for amount in AMOUNTS:
        job = amount.to_bytes(32, "big")[::-1] if amount else UNKNOWN_JOB
        yield events.Funded(at(), STRANGER, amount)
        yield events.Funded(at(), to_checksum_address(network.escrow), amount)
        yield events.Bonded(at(), STRANGER, amount)
        yield events.JobCreated(at(), job, STRANGER, amount, amount, 2**63 - 1)
        yield events.JobFunded(at(), job, STRANGER, amount)
        yield events.JobFunded(at(), bytes.fromhex(JOB), STRANGER, amount)
        yield events.JobCancelled(at(), job, amount % 2**63)
        yield events.JobFinalised(at(), job, amount % 2**64)
        yield events.JobRefunded(at(), job, STRANGER, 2 * amount)  # all that was put in above
        yield events.FraudProven(at(), 2**64 - 1, UNKNOWN_NODE, STRANGER, amount)
    yield events.Registered(at(), UNKNOWN_NODE, STRANGER, to_checksum_address(address(0)))
    yield events.PayoutChangeRequested(at(), UNKNOWN_NODE, STRANGER, 2**63 - 1)
    yield events.PayoutChangeCancelled(at(), UNKNOWN_NODE)
    yield events.RootPosted(at(), 2**64 - 1, b"\7" * 32, 2**64 - 1, b"\7" * 32, 2**63 - 1)
    yield events.RootVetoed(at(), 2**64 - 1, b"\7" * 32)
    yield events.Redirected(at(), UNKNOWN_NODE, STRANGER)
    yield events.Skipped(at(), Entry(UNKNOWN_NODE, STRANGER, 2**64 - 1))
    yield events.JobDrawn(at(), UNKNOWN_JOB, 1, 0)
    yield events.Claimed(at(), ())


def take_in(book: Book, network: Network, event: ChainEvent) -> None:
    with book.write() as journal:
        book_event(journal, network, event)


def test_every_kind_of_event_is_among_them(network: Network) -> None:
    assert {type(event) for event in from_strangers(network)} == set(get_args(ChainEvent))


def test_no_event_of_a_stranger_stops_the_ledger(book: Book, network: Network) -> None:
    for event in from_strangers(network):
        take_in(book, network, event)
        take_in(book, network, event)  # as after a crash
        book.totals()
    book.credit([pay(1, 0, TOKEN)], 0)
    assert settle(book, network) is not None
    decide(book, "posted")
    rebuild(public(book), network.daily_cap_gwei)


def test_what_moves_nothing_is_not_booked(book: Book, network: Network) -> None:
    before = len(public(book)["transfers"])
    for event in from_strangers(network):
        nothing: dict[str, Any] = {name: 0 for name in ("amount_wei", "budget_wei") if hasattr(event, name)}
        take_in(book, network, replace(event, **nothing))
    assert len(public(book)["transfers"]) == before


@pytest.mark.parametrize(
    "event",
    [
        events.JobDrawn(at(), UNKNOWN_JOB, 1, 1),
        events.JobRefunded(at(), UNKNOWN_JOB, STRANGER, 1),
        events.JobDrawn(at(), bytes.fromhex(JOB), 1, 2**128 - 1),
        events.Registered(at(), 1, STRANGER, STRANGER),
        events.Registered(at(), 2**32, STRANGER, STRANGER),
    ],
)
def test_what_contradicts_the_book_is_a_difference(book: Book, network: Network, event: ChainEvent) -> None:
    """The RPC has left out what came before: the intake reads again, and the process lives."""
    before = public(book)
    with pytest.raises(DifferenceError, match="does not fit the book"):
        take_in(book, network, event)
    assert public(book) == before


def test_a_claim_of_what_nobody_owes_is_refused(book: Book, network: Network) -> None:
    event = events.Claimed(at(), (Entry(UNKNOWN_NODE, STRANGER, 1),))
    with pytest.raises(RefusedError, match="has 0 wei payable"):
        take_in(book, network, event)
