"""Batches in the book: pending, posted, vetoed; draws, caps, finalisation, claims; rebuilt from the public file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ledger_actors import JOB, OTHER_JOB, TOKEN, decide, pay, public

from anynode_contracts.entries import GWEI, pack
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.merkle import domain, leaf, verify
from anynode_contracts.networks import Network
from anynode_ledger.accounts import Transfer
from anynode_ledger.batch import Payee, build_batch
from anynode_ledger.book import Book
from anynode_ledger.intents import intents
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.public import export_public
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import batches_of, book_claim, settle


def meant(book: Book) -> list[tuple[str, str]]:
    with book.read() as journal:
        return [(status.intent.kind, status.intent.subject) for status in intents(journal)]


def test_the_demos_two_batches(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, 5 * TOKEN + 7), pay(2, 0, 3 * TOKEN)], 4 * TOKEN)
    first = settle(book, network)
    assert first is not None
    assert [(e.index, e.cumulative_gwei) for e in first.entries] == [(1, TOKEN // GWEI)]
    assert first.draws == {JOB: 8 * TOKEN + 7}  # what is held back is drawn too
    with pytest.raises(RefusedError, match="not final yet"):
        settle(book, network)
    decide(book, "posted")
    book.close_job(JOB)
    second = settle(book, network)
    assert second is not None
    assert (second.number, second.draws) == (2, {})
    assert [(e.index, e.cumulative_gwei) for e in second.entries] == [(1, 5 * TOKEN // GWEI), (2, 3 * TOKEN // GWEI)]
    decide(book, "posted")
    assert settle(book, network) is None
    assert meant(book) == [("draw", f"{JOB}/1.1"), ("postRoot", "1.1"), ("finalise", JOB), ("postRoot", "2.1")]
    assert [b.root for b in rebuild(public(book), network.daily_cap_gwei)] == [first.root, second.root]
    assert (book.balances(1).payable_wei, book.balances(1).dust_wei) == (5 * TOKEN, 7)


def test_proofs_lead_to_the_root(book: Book, network: Network) -> None:
    book.credit([pay(node, 0, node * TOKEN) for node in (1, 2, 3)], 0)
    batch = settle(book, network)
    assert batch is not None
    own_domain = domain(network.chain_id, network.distributor)
    for position, entry in enumerate(batch.entries):
        assert verify(bytes.fromhex(batch.root), leaf(own_domain, pack(entry)), batch.tree().proof(position))


def test_claims_move_payable_to_paid(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, 2 * GWEI + 5)], 0)
    settle(book, network)
    with book.write() as journal, pytest.raises(RefusedError, match="restore it"):
        book_claim(journal, 1, 2, "early")
    decide(book, "posted")
    with book.write() as journal:
        journal.append(_drawn(2 * GWEI + 5))
        book_claim(journal, 1, 2, "claim/1")
        book_claim(journal, 1, 2, "claim/1")
    balance = book.balances(1)
    assert (balance.paid_wei, balance.payable_wei, balance.dust_wei) == (2 * GWEI, 0, 5)
    assert book.totals()["custody_wallets"] == 2 * GWEI


def test_a_veto_gives_everything_back_and_the_number_is_used_again(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, TOKEN), pay(2, 0, TOKEN)], 0)
    settle(book, network)
    assert book.balances(1).waiting_wei == TOKEN
    decide(book, "void")
    assert (book.balances(1).waiting_wei, book.balances(1).accrued_wei) == (0, TOKEN)
    book.slash(2, JOB, "vetoed for good reason", "slash/1")
    book.credit([pay(1, 1, TOKEN // 2)], 0)
    again = settle(book, network)
    assert again is not None
    assert (again.number, again.attempt) == (1, 2)
    assert [(e.index, e.cumulative_gwei) for e in again.entries] == [(1, 3 * TOKEN // 2 // GWEI)]
    assert again.draws == {}  # the tokens of the first attempt are in the distributor already
    decide(book, "posted")
    assert len(rebuild(public(book), network.daily_cap_gwei)) == 2


def test_a_cap_spreads_the_pay_over_batches(book: Book, network: Network) -> None:
    book.open_job(
        JOB,
        owner=f"0x{7:040d}",
        budget_wei=1_000 * TOKEN,
        cap_per_batch_wei=10 * GWEI,
        price_wei_per_million_samples=1,
    )
    book.credit([pay(1, 0, 9 * GWEI), pay(2, 0, 6 * GWEI)], 0)
    book.close_job(JOB)
    totals, draws = [], []
    while (batch := settle(book, network)) is not None:
        totals.append(batch.total_gwei)
        draws.append(batch.draws[JOB])
        decide(book, "posted")
    assert (totals, draws) == ([10, 15], [10 * GWEI, 5 * GWEI])
    assert meant(book)[-2:] == [("finalise", JOB), ("postRoot", "2.1")]
    rebuild(public(book), network.daily_cap_gwei)


def test_a_vetoed_attempt_counts_against_the_cap(book: Book, network: Network) -> None:
    book.open_job(JOB, owner=f"0x{7:040d}", budget_wei=1, cap_per_batch_wei=10 * GWEI, price_wei_per_million_samples=1)
    book.credit([pay(1, 0, 8 * GWEI)], 0)
    settle(book, network)
    decide(book, "void")
    book.credit([pay(1, 1, 8 * GWEI)], 0)
    again = settle(book, network)
    assert again is not None
    assert (again.draws, again.total_gwei) == ({JOB: 2 * GWEI}, 10)
    rebuild(public(book), network.daily_cap_gwei)


def test_less_than_a_gwei_waits(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, GWEI - 1)], 0)
    assert settle(book, network) is None
    assert meant(book) == []
    book.credit([pay(1, 1, 1)], 0)
    batch = settle(book, network)
    assert batch is not None
    assert batch.total_gwei == 1


def test_dust_is_carried_over_jobs_and_batches(book: Book, network: Network) -> None:
    book.fund_job(OTHER_JOB, TOKEN, "fund/2")
    book.credit([pay(1, 0, GWEI + 600_000_000), pay(1, 0, 300_000_000, OTHER_JOB)], 0)
    settle(book, network)
    assert (book.balances(1).waiting_wei, book.balances(1).dust_wei) == (GWEI, 900_000_000)
    decide(book, "void")
    assert (book.balances(1).accrued_wei, book.balances(1).dust_wei) == (GWEI + 900_000_000, 0)
    settle(book, network)
    decide(book, "posted")
    book.credit([pay(1, 1, 100_000_000)], 0)
    settle(book, network)
    decide(book, "posted")
    assert (book.balances(1).payable_wei, book.balances(1).dust_wei) == (2 * GWEI, 0)
    rebuild(public(book), network.daily_cap_gwei)


def test_a_closed_job_without_pay_is_finalised_at_once(book: Book, network: Network) -> None:
    book.close_job(JOB)
    assert settle(book, network) is None
    assert settle(book, network) is None
    assert meant(book) == [("finalise", JOB)]


def test_a_changed_payout_counts_from_the_next_batch(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, TOKEN)], 0)
    first = settle(book, network)
    book.register_node(1, f"0x{1:040d}", f"0x{888:040d}")
    decide(book, "posted")
    book.credit([pay(1, 1, TOKEN)], 0)
    second = settle(book, network)
    assert first is not None
    assert second is not None
    assert (first.entries[0].account, second.entries[0].account) == (f"0x{101:040d}", f"0x{888:040d}")
    rebuild(public(book), network.daily_cap_gwei)


def test_another_network_is_refused(book: Book, network: Network) -> None:
    book.credit([pay(1, 0, TOKEN)], 0)
    settle(book, network)
    with pytest.raises(RefusedError, match="open the ledger of that network"):
        settle(book, network.model_copy(update={"chain_id": 1}))


def test_batches_survive_reopening(book: Book, network: Network, open_book: Callable[[], Book]) -> None:
    book.credit([pay(1, 0, TOKEN), pay(3, 0, TOKEN)], 0)
    batch = settle(book, network)
    (stored,) = batches_of(open_book())
    assert (stored.batch, stored.state) == (batch, "pending")


def test_order_of_payees_does_not_matter_and_history_does() -> None:
    payees = [Payee(2, f"0x{2:040d}", 5 * GWEI), Payee(1, f"0x{1:040d}", 7 * GWEI + 3), Payee(3, f"0x{3:040d}", 9)]
    one = build_batch(1, 31337, f"0x{4:040d}", payees)
    assert one == build_batch(1, 31337, f"0x{4:040d}", payees[::-1])
    assert [entry.index for entry in one.entries] == [1, 2]
    other = build_batch(1, 31337, f"0x{4:040d}", payees, ledger_hash="f" * 64)
    assert other.root == one.root
    assert other.data_hash != one.data_hash


def test_no_root_raises_the_total_by_more_than_the_contract_takes_in_a_day(book: Book, network: Network) -> None:
    capped = network.model_copy(update={"daily_cap_gwei": 4})
    book.credit([pay(1, 0, 6 * GWEI + 1), pay(2, 0, 3 * GWEI), pay(3, 0, GWEI)], 0)
    paid, totals = 10 * GWEI + 1, []
    while (batch := settle(book, capped)) is not None:
        totals.append(batch.total_gwei)
        decide(book, "posted")
    assert all(0 < raised <= 4 for raised in (b - a for a, b in pairwise([0, *totals])))
    nodes = book.nodes()
    assert sum(node.payable_wei + node.dust_wei for node in nodes) == paid
    assert (totals[-1], [node.payable_wei for node in nodes]) == (10, [6 * GWEI, 3 * GWEI, GWEI])
    assert rebuild(public(book), 4) == [stored.batch for stored in batches_of(book)]
    with pytest.raises(RefusedError, match="batch 1 settles"):
        rebuild(public(book), 5)


def test_what_audits_cost_passes_through_the_jobs_fees(book: Book, network: Network) -> None:
    audit = Credit(credit_id(JOB, 0, 3, "audit"), JOB, 0, 3, "audit", 50)
    book.credit([pay(1, 0, 1_000), audit], 20)
    assert (book.job(JOB).fees_wei, book.job(JOB).credited_wei, book.totals()["fees"]) == (50, 1_050, 0)
    good = public(book)
    rebuild(good, network.daily_cap_gwei)
    (fee,) = (row for row, item in enumerate(good["transfers"]) if item["reason"] == "fee")
    for path, value, words in (
        (("transfers", fee, "amount_wei"), "40", "not charged"),
        (("transfers", fee, "id"), "fee/something", "not charged"),
        (("credits", 1, "kind"), "samples", "would be paid twice"),
    ):
        with pytest.raises(RefusedError, match=words):
            rebuild(_alter(good, *path, to=value), network.daily_cap_gwei)
    with pytest.raises(RefusedError, match="charges a fee for nothing"):
        rebuild(
            {**good, "transfers": [*good["transfers"], good["transfers"][fee] | {"id": "fee/made up"}]},
            network.daily_cap_gwei,
        )


def _exported(book: Book, network: Network) -> dict[str, Any]:
    book.credit([pay(1, 0, 5 * TOKEN), pay(2, 0, 3 * TOKEN)], TOKEN)
    settle(book, network)
    decide(book, "posted")
    book.slash(2, JOB, "noise", "slash/1")
    book.close_job(JOB)
    settle(book, network)
    return public(book)


def test_the_public_file_rebuilds_everything(book: Book, network: Network, tmp_path: Path) -> None:
    _exported(book, network)
    path = export_public(book, tmp_path / "public")
    assert [b.root for b in rebuild(json.loads(path.read_bytes()), network.daily_cap_gwei)] == [
        s.batch.root for s in batches_of(book)
    ]
    assert list((tmp_path / "public").iterdir()) == [path]
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        export_public(book, blocked / "below")


def _alter(content: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    altered = copy.deepcopy(content)
    place: Any = altered
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return altered


def test_every_change_to_the_public_file_is_found(book: Book, network: Network) -> None:
    good = _exported(book, network)
    rebuild(good, network.daily_cap_gwei)
    changes: list[tuple[tuple[str | int, ...], Any, str]] = [
        (("credits", 0, "amount_wei"), str(6 * TOKEN), "credit"),
        (("credits", 0, "node_index"), 3, "credit"),
        (("transfers", 1, "amount_wei"), "1", "credit"),
        (("transfers", 0, "amount_wei"), "1", "takes"),
        (("transfers", 2, "id"), good["transfers"][1]["id"], "twice"),
        (("transfers", 2, "reason"), "gift", "credit|never"),
        (("credits", 0, "round"), 9, "paid twice"),
        (("decisions", 2, "id"), "someone", "decision 'someone' books"),
        (("decisions", 2, "node_index"), 1, "decision 'slash/1' books"),
        (("decisions", 2, "node_index"), None, "names no node"),
        (("decisions", 2, "kind"), "close", "follows no decision"),
        (("decisions", 2, "transfers_before"), 10_000, "follows no decision"),
        (("decisions", 1, "transfers_before"), 0, "out of order|books|follows no decision"),
        (("batches", 0, "root"), "0" * 64, "root"),
        (("batches", 0, "data_hash"), "0" * 64, "data hash"),
        (("batches", 0, "ledger_hash"), "0" * 64, "ledger hash"),
        (("batches", 0, "total_gwei"), "5", "total"),
        (("batches", 0, "entries", 0, "cumulative_gwei"), "5", "pays node 1"),
        (("batches", 0, "entries", 0, "account"), f"0x{5:040d}", "pays node 1"),
        (("batches", 0, "entries"), [], "leaves out node 1"),
        (("batches", 0, "draws"), {}, "draws"),
        (("batches", 0, "state"), "void", "listed as void"),
        (("batches", 1, "state"), "posted", "listed as posted"),
        (("batches", 1, "number"), 3, "stands where"),
        (("batches", 1, "chain_id"), 1, "root"),
        (("batches", 1, "transfers_before"), 10_000, "out of order"),
        (("nodes", 0, "payouts", 0, "payout"), f"0x{5:040d}", "pays node 1"),
        (("nodes", 0, "payouts", 0, "from_batch"), 5, "no payout address"),
        (("transfers", 0, "amount_wei"), "1.5", "malformed at transfers.0.amount_wei"),
        (("format",), "anynode/ledger/2", "malformed at format"),
        (("surprise",), 1, "malformed at surprise"),
    ]
    for path, value, words in changes:
        with pytest.raises(RefusedError, match=words) as caught:
            rebuild(_alter(good, *path, to=value), network.daily_cap_gwei)
        assert "\n" not in str(caught.value), path
    with pytest.raises(RefusedError):
        rebuild({**good, "transfers": good["transfers"][:-1]}, network.daily_cap_gwei)
    with pytest.raises(RefusedError):
        rebuild({**good, "batches": good["batches"][:-1]}, network.daily_cap_gwei)


def test_a_slash_takes_all_of_the_pay_of_the_node_that_it_names_and_of_no_other(book: Book, network: Network) -> None:
    good = _exported(book, network)
    slashes = [item for item in good["transfers"] if item["reason"] in ("slash", "restore")]
    assert {item["debit"].split("/")[0] for item in slashes} == {"held_back", "slashed"}
    spared, turned, lessened = copy.deepcopy(good), copy.deepcopy(good), copy.deepcopy(good)
    spared["transfers"] = [item for item in good["transfers"] if item not in slashes]
    place = good["transfers"].index(slashes[0])
    for item in (*spared["decisions"], *spared["batches"]):
        item["transfers_before"] -= len(slashes) if item["transfers_before"] > place else 0
    for item in turned["transfers"]:
        if item["reason"] in ("slash", "restore"):
            item |= {side: item[side].replace("/2/", "/1/") for side in ("debit", "credit")}
    for item in lessened["transfers"]:
        if item["reason"] in ("slash", "restore"):
            item["amount_wei"] = "1"
    for lie in (spared, turned, lessened):
        with pytest.raises(RefusedError, match=r"decision 'slash/1' (books|of the public ledger stands where)"):
            rebuild(lie, network.daily_cap_gwei)


def _drawn(amount: int) -> Transfer:
    return Transfer("event/draw", "custody_distributor", f"custody_escrow/{JOB}", amount, "draw")
