"""Appeals in the ledger: what they come to is booked once, whatever crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from appealed_world import ACCUSED, BETRAYS, TRAITOR, AppealedWorld
from bank import NETWORK, VERIFIER, Bank
from signed_world import PRICE_WEI
from sqlalchemy import delete

from anynode.rounds.course import Seal
from anynode.rounds.judgements import Correct, CorrectedRound, Excision, Ruling
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.earning import has_ended
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.public import public_ledger
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import done_jobs
from anynode_verifier.appeal_checks import check_appeals
from anynode_verifier.credits import judged_rounds, round_credits, ruled_rounds

CALLER = "192.0.2.1"


@pytest.fixture
def open_bank(tmp_path: Path, appealed: AppealedWorld) -> Iterator[Callable[[], Bank]]:
    banks: list[Bank] = []

    def open_it() -> Bank:
        banks.append(Bank(tmp_path / f"ledger-{len(banks)}.sqlite", appealed))
        return banks[-1].fill()

    yield open_it
    for bank in banks:
        bank.book.close()


def test_a_granted_appeal_pays_and_an_upheld_one_costs(open_bank: Callable[[], Bank], appealed: AppealedWorld) -> None:
    bank = open_bank()
    bank.finish(bank.account())
    accused, traitor, verifier = (
        bank.book.balances(bank.book.node_index(name) or 0) for name in (ACCUSED, TRAITOR, VERIFIER)
    )
    judged = {round_.open.round: round_ for round_ in judged_rounds(appealed.records)}
    sealed = {r.body.round: r.body for r in appealed.records if isinstance(r.body, Seal)}
    paid = sum(
        item.samples for number, round_ in judged.items() for item in sealed[number].commitments if item.node == ACCUSED
    )
    assert accused.slashed_wei == 0, "what was slashed is back"
    assert accused.earned_wei >= 0.9 * paid * PRICE_WEI, "all its work is paid, the rejected round's too"
    assert traitor.slashed_wei > 0 and traitor.earned_wei == 0
    from_audits = sum(
        credit.amount_wei
        for round_ in judged.values()
        for credit in round_credits(appealed.job, round_, {n: bank.indices[n] for n in round_.paid_nodes}, 50)
        if credit.kind == "audit"
    )
    samples = next(i.samples for i in sealed[BETRAYS].commitments if i.node == TRAITOR)
    cost_wei = min(samples * PRICE_WEI * 90 // 100, traitor.slashed_wei)
    assert verifier.earned_wei == from_audits + cost_wei
    bank.book.totals()
    ledger = public_ledger(bank.book)
    rebuild(ledger.model_dump(mode="json"), NETWORK.daily_cap_gwei)
    listed = {(c.round, c.node_index, c.kind): int(c.amount_wei) for c in ledger.credits}
    for round_ in judged.values():
        for credit in round_credits(appealed.job, round_, {n: bank.indices[n] for n in round_.paid_nodes}, 50):
            listed.pop((credit.round, credit.node_index, credit.kind))
    index_of = {node.node: node.index for node in ledger.nodes}
    check_appeals(ruled_rounds(appealed.records), appealed.job, ledger, index_of, listed)
    assert not listed, "everything that is booked follows from a record"
    with pytest.raises(RefusedError, match="follows no ruling"):
        check_appeals([], appealed.job, ledger, index_of, {})


def test_rulings_on_an_escrow_that_has_lapsed_hold_up_nothing_and_are_said_once(
    open_bank: Callable[[], Bank], appealed: AppealedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """What was slashed before is the owner's again, and cannot be given back; what others have earned is paid."""
    bank = open_bank()
    account = bank.account([record for record in appealed.records if not isinstance(record.body, Ruling)])
    bank.treasury.advance([account])
    _post(bank)
    bank.lapse()
    other = "9" * 64
    bank.book.fund_job(other, 10**18, "fund/other")
    bank.book.credit([Credit(credit_id(other, 0, 50, "samples"), other, 0, 50, "samples", 10**17)], 0)
    for record in appealed.records:
        if isinstance(record.body, Ruling):
            account.add(record)
    for _ in range(3):
        bank.now_s += 3_600.0
        bank.treasury.advance([account])
        _post(bank)
    said = [entry.message for entry in caplog.records if "appeal" in entry.message]
    assert len(said) == len(set(said)) > 0
    assert bank.book.balances(50).accrued_wei == 0, "the other job is settled"
    assert account.over and not account.to_rule
    nodes = {node.node: node for node in bank.book.nodes()}
    assert all(node.held_back_wei == node.accrued_wei == 0 for node in nodes.values())
    assert nodes[ACCUSED].slashed_wei > 0
    rebuild(public_ledger(bank.book).model_dump(mode="json"), NETWORK.daily_cap_gwei)
    bank.book.totals()


def test_a_ruling_that_comes_after_the_close_is_dropped(open_bank: Callable[[], Bank], appealed: AppealedWorld) -> None:
    bank = open_bank()
    before = [record for record in appealed.records if not isinstance(record.body, Ruling)]
    account = bank.account(before)
    for _ in range(4):
        bank.treasury.advance([account])
        _post(bank)
        bank.now_s += NETWORK.window_s
    assert bank.book.job(appealed.job.job_id).closed
    totals = bank.book.totals()
    with bank.book.write() as journal:  # as if the process had died before the escrow's last word was queued
        journal.connection.execute(delete(schema.outbox_intents))
    again = bank.account()
    assert again.to_rule
    bank.treasury = bank.restarted()
    bank.treasury.advance([again])
    assert not again.to_rule and again.complete
    assert bank.book.totals() == totals
    with bank.book.read() as journal:
        assert has_ended(journal, appealed.job.job_id) and appealed.job.job_id in done_jobs(journal)


def test_what_could_not_be_replayed_again_stays_rejected_and_costs_nothing(
    open_bank: Callable[[], Bank], appealed: AppealedWorld
) -> None:
    """Nobody is paid for a replay that there was not."""
    records = [
        replace(record, body=replace(record.body, heard=record.body.granted))
        if isinstance(record.body, Ruling)
        else record
        for record in appealed.records
    ]
    heard, unheard = open_bank(), open_bank()
    heard.finish(heard.account())
    unheard.finish(unheard.account(records))
    traitor = unheard.indices[TRAITOR]
    assert unheard.book.balances(traitor) == heard.book.balances(traitor)
    verifier = unheard.book.node_index(VERIFIER) or 0
    cost_wei = heard.book.balances(verifier).earned_wei - unheard.book.balances(verifier).earned_wei
    assert cost_wei > 0
    ledger = public_ledger(heard.book)
    index_of = {node.node: node.index for node in ledger.nodes}
    with pytest.raises(RefusedError, match="follows no ruling"):
        check_appeals(ruled_rounds(records), appealed.job, ledger, index_of, {})


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("words", ["differs", "found out by a new proof"])
def test_what_an_appeal_has_cleared_and_a_new_proof_takes_out_is_slashed(
    open_bank: Callable[[], Bank], appealed: AppealedWorld, at_once: bool, words: str
) -> None:
    """Whatever the reasons say, and whether or not what the appeal gives back is booked before."""
    bank, job_id = open_bank(), appealed.job.job_id
    place, ruling = next((n, r.body) for n, r in enumerate(appealed.records) if isinstance(r.body, Ruling))
    assert ruling.granted and ruling.node == ACCUSED
    before = appealed.records[: place + 1]
    excised = (Excision(ruling.round, ruling.slot, ACCUSED, words),)
    correct = Correct("correct", 99, excised, (CorrectedRound(ruling.round, (), 0),), "a" * 64, 0, (), False)
    late = Record(job_id, place + 1, before[-1].hash, correct)
    index, account = bank.indices[ACCUSED], bank.account([*before, late] if at_once else before)
    bank.treasury.advance([account])
    if not at_once:
        assert bank.book.balances(index).slashed_wei == 0 < bank.book.balances(index).earned_wei
        account.add(late)
        bank.treasury.advance([account])
    assert bank.book.balances(index).earned_wei == 0 < bank.book.balances(index).slashed_wei
    assert not account.to_rule
    bank.book.totals()


def test_what_is_taken_out_by_its_verdict_alone_comes_back_with_the_appeal(
    open_bank: Callable[[], Bank], appealed: AppealedWorld
) -> None:
    bank, plain = open_bank(), open_bank()
    place, ruling = next((n, r.body) for n, r in enumerate(appealed.records) if isinstance(r.body, Ruling))
    excised = (Excision(ruling.round, ruling.slot, ACCUSED, "differs"),)
    correct = Correct("correct", 99, excised, (CorrectedRound(ruling.round, (), 0),), "a" * 64, 0, (), False)
    late = Record(appealed.job.job_id, place, appealed.records[place - 1].hash, correct)
    bank.treasury.advance([bank.account([*appealed.records[:place], late, *appealed.records[place:]])])
    plain.treasury.advance([plain.account()])
    assert bank.book.balances(bank.indices[ACCUSED]) == plain.book.balances(bank.indices[ACCUSED])
    assert bank.book.balances(bank.indices[ACCUSED]).slashed_wei == 0


def test_a_job_is_not_closed_while_a_rejection_may_be_appealed(
    open_bank: Callable[[], Bank], appealed: AppealedWorld
) -> None:
    bank = open_bank()
    before = [record for record in appealed.records if not isinstance(record.body, Ruling)]
    account = bank.account(before)
    waits = True
    account.appeals_wait = lambda: waits
    for _ in range(5):
        bank.treasury.advance([account])
        if any(True for _ in bank.book.nodes()) and not bank.book.job(appealed.job.job_id).closed:
            bank.now_s += NETWORK.window_s
            _post(bank)
    assert not bank.book.job(appealed.job.job_id).closed, "an appeal waits"
    waits = False
    bank.treasury.advance([account])
    assert bank.book.job(appealed.job.job_id).closed


def _post(bank: Bank) -> None:
    from anynode_ledger.settlement import batches_of

    if any(stored.state == "pending" for stored in batches_of(bank.book)):
        bank.decide("posted")


def test_a_restart_after_every_record_books_each_appeal_once(
    open_bank: Callable[[], Bank], appealed: AppealedWorld
) -> None:
    whole, broken = open_bank(), open_bank()
    whole.finish(whole.account())
    for length in range(1, len(appealed.records) + 1):
        broken.treasury = broken.restarted()
        broken.treasury.advance([broken.account(appealed.records[:length])])
    broken.finish(broken.account())
    assert broken.earned() == whole.earned() and broken.book.totals() == whole.book.totals()


@pytest.mark.parametrize("method", ["credit", "reinstate", "repay"])
@pytest.mark.parametrize("done", [False, True])
def test_a_kill_beside_each_booking_is_repeated_without_harm(
    open_bank: Callable[[], Bank], monkeypatch: pytest.MonkeyPatch, method: str, done: bool
) -> None:
    whole, broken = open_bank(), open_bank()
    whole.finish(whole.account())
    real: Callable[..., int] = getattr(Book, method)
    calls = 0

    class KilledError(Exception):
        pass

    def killed(book: Book, *arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if book is not broken.book or calls not in (1, 4, 9, 16):
            return real(book, *arguments)
        if done:
            real(book, *arguments)
        raise KilledError

    monkeypatch.setattr(Book, method, killed)
    for _ in range(6):
        broken.treasury = broken.restarted()
        try:
            broken.finish(broken.account())
        except KilledError:
            continue
        break
    assert calls > 1
    assert broken.earned() == whole.earned() and broken.book.totals() == whole.book.totals()
