"""Appeals in the records, at the desk and in the ledger: decided once, paid once, refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from appealed_world import ACCUSED, BETRAYS, ERRS, TRAITOR, AppealedWorld, appealed_world
from signed_world import DOMAIN, PRICE_WEI, key, sign_record
from sqlalchemy import delete
from test_verifier_treasury import NETWORK, VERIFIER, Bank

from anynode.rounds.appeals import APPEAL_BYTES_MAX, APPEAL_ROUNDS, Appeal, parse_appeal, refusal
from anynode.rounds.course import Seal
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Correct, CorrectedRound, Excision, Ruling
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing
from anynode.rounds.table import Table
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, RefusedError
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.earning import has_ended
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.public import public_ledger
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import done_jobs
from anynode_verifier.appeal_checks import check_appeals
from anynode_verifier.appeal_desk import APPEAL_RATE, UNREAD_RATE, AppealDesk
from anynode_verifier.credits import judged_rounds, round_credits, ruled_rounds
from anynode_verifier.lineage import Reader, follow

CALLER = "192.0.2.1"


@pytest.fixture(scope="module")
def world() -> AppealedWorld:
    return appealed_world()


def rechained(world: AppealedWorld, change: Callable[[Ruling], Ruling]) -> list[Record]:
    """The chain up to its first ruling, with that one changed."""
    place = next(n for n, record in enumerate(world.records) if isinstance(record.body, Ruling))
    record = world.records[place]
    assert isinstance(record.body, Ruling)
    return [*world.records[:place], replace(record, body=change(record.body))]


# ---------------------------------------------------------------- records


def test_the_chain_follows_and_the_honest_are_back(world: AppealedWorld) -> None:
    rulings = {(item.round, item.node): item for item in world.rulings}
    assert rulings[ERRS, ACCUSED].granted and not rulings[BETRAYS, TRAITOR].granted
    reader = Reader(world.job, DOMAIN)
    for record in world.records:
        reader.take(record)
    assert reader.standings[ACCUSED].proven and not reader.standings[ACCUSED].banned
    assert reader.standings[TRAITOR].banned
    assert {name: world.standing(name) for name in reader.standings} == reader.standings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, appeal="0x" + "00" * 65), "no valid signature"),
        (lambda r: replace(r, node=TRAITOR if r.node == ACCUSED else ACCUSED), "not rejected"),
        (lambda r: replace(r, slot=r.slot + 1), "not rejected"),
        (lambda r: replace(r, round=r.round + 1), "not rejected"),
        (lambda r: replace(r, granted=not r.granted), "mistaken"),
        (lambda r: replace(r, mistaken=""), "mistaken"),
        (lambda r: replace(r, heard=False, granted=True), "nobody has replayed"),
    ],
)
def test_a_ruling_that_does_not_follow_is_refused(
    world: AppealedWorld, change: Callable[[Ruling], Ruling], words: str
) -> None:
    with pytest.raises((RefusedError, BreachError), match=words):
        follow(rechained(world, change), world.job, DOMAIN)


def test_a_second_ruling_is_refused(world: AppealedWorld) -> None:
    once = rechained(world, lambda ruling: ruling)
    again = replace(once[-1], height=once[-1].height + 1, previous=once[-1].hash)
    with pytest.raises(RefusedError, match="second time"):
        follow([*once, again], world.job, DOMAIN)


# ---------------------------------------------------------------- the desk


class Desk:
    """An appeal desk over the records before any ruling."""

    def __init__(self, world: AppealedWorld, folder: Path, records: list[Record] | None = None) -> None:
        place = next(n for n, record in enumerate(world.records) if isinstance(record.body, Ruling))
        self.world, self.now_s, self.closed = world, 0.0, False
        self.records = [sign_record(record) for record in (world.records[:place] if records is None else records)]
        self.desk = AppealDesk(
            world.job,
            DOMAIN,
            folder,
            records=lambda: self.records,
            standing_of=lambda _: Standing(banned="differs", rejections=1),
            holder_of=lambda view: f"holder of {view}",
            is_closed=lambda: self.closed,
            clock=lambda: self.now_s,
        )
        self.desk.open()

    def data(self, who: str, number: int, **changes: Any) -> bytes:
        return canonical_json(asdict(self.world.signed_appeal(who, number)) | changes)


def first_rejected(world: AppealedWorld) -> tuple[int, str]:
    return next((r.body.round, r.body.node) for r in world.records if isinstance(r.body, Ruling))


def test_an_appeal_outlives_a_restart_until_its_ruling(world: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path)
    desk.desk.take_in(desk.data(node, round_), CALLER)
    again = Desk(world, tmp_path)
    assert list(again.desk.waiting) == [(round_, node)]
    replay = again.desk.replay_of(round_, node)
    assert replay.open.members[replay.slot].node == node and replay.again
    assert again.desk.state_roots() == [replay.open.state_root]
    assert again.desk.judge_of(round_) == "holder of 0"
    for record in world.records[len(again.records) :]:
        again.desk.note(record)
    assert not again.desk.waiting and not list(tmp_path.iterdir())
    with pytest.raises(RefusedError, match=r"heard already .* one for each rejection"):
        again.desk.take_in(again.data(node, round_), CALLER)


def test_appeals_of_a_closed_job_are_refused(world: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path)
    desk.closed = True
    with pytest.raises(RefusedError, match="is closed"):
        desk.desk.take_in(desk.data(node, round_), CALLER)
    assert not desk.desk.waiting


def test_only_equal_bits_take_a_rejection_back(world: AppealedWorld, tmp_path: Path) -> None:
    """Two replays have agreed on it, so what cannot be replayed again stays rejected; that is not called a hearing."""
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path).desk
    appeal = Appeal("appeal", node, round_, "0x" + "11" * 65)
    slot = desk.rejections[round_, node].slot
    for outcome, heard in (("accepted", True), ("rejected", True), ("void", False)):
        ruling = desk.ruling(appeal, Replayed(round_, slot, outcome, "exact", "what was found", again=True))
        assert (ruling.heard, ruling.granted) == (heard, outcome == "accepted")
        assert ruling.mistaken == ("holder of 0" if ruling.granted else "")
        assert "what was found" in ruling.reason
        assert ("cannot be replayed again" in ruling.reason) is not heard


def test_bad_appeals_are_refused_in_words(world: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path)
    honest = key("member 0").address
    for data, words in (
        (b"", "well-formed"),
        (b"[]", "well-formed"),
        (desk.data(node, round_, extra=1), "well-formed"),
        (desk.data(node, round_, round="1"), "well-formed"),
        (desk.data(node, round_, node=node.lower()), "well-formed"),
        (desk.data(node, round_) + b" " * APPEAL_BYTES_MAX, "at most"),
        (desk.data(node, round_, signature="0x" + "11" * 65), "signature"),
        (desk.data(honest, round_, node=node), "not signed by"),
        (desk.data(node, round_, round=round_ + 1), "no verdict has rejected"),
        (desk.data(honest, round_), "no verdict has rejected"),
    ):
        desk.now_s += 60.0
        with pytest.raises((RefusedError, BreachError), match=words):
            desk.desk.take_in(data, CALLER)
    assert not desk.desk.waiting and not list(tmp_path.iterdir())


def test_a_flood_of_appeals_is_slowed(world: AppealedWorld, tmp_path: Path) -> None:
    """From one caller, whatever it sends, and from one node, whoever sends it."""
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path)
    assert taken(desk, CALLER, [desk.data(node, round_)] * 100, "from this address") == UNREAD_RATE.burst
    assert len(desk.desk.waiting) == len(list(tmp_path.iterdir())) == 1
    rejection = desk.desk.rejections[round_, node]
    rounds = range(round_, round_ + 10)
    desk.desk.rejections = Table([((number, node), replace(rejection, ruling=None)) for number in rounds])
    desk.desk.waiting, desk.now_s = {}, 60.0
    data = [desk.data(node, number) for number in rounds]
    assert taken(desk, "another", data, "this node sends too many") == APPEAL_RATE.burst


def taken(desk: Desk, caller: str, sent: list[bytes], words: str) -> int:
    """How many are taken in at once; the others are refused with these words."""
    count = 0
    for data in sent:
        try:
            desk.desk.take_in(data, caller)
            count += 1
        except RefusedError as error:
            assert words in str(error)
    return count


def test_nobody_keeps_a_worker_from_appealing_by_appeals_in_its_name(world: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(world)
    desk = Desk(world, tmp_path)
    for _ in range(10 * UNREAD_RATE.burst):
        with pytest.raises((RefusedError, BreachError)):
            desk.desk.take_in(desk.data(node, round_, signature="0x" + "11" * 65), "a stranger")
    desk.desk.take_in(desk.data(node, round_), CALLER)
    assert list(desk.desk.waiting) == [(round_, node)]


def test_the_window_ends_after_so_many_rounds(world: AppealedWorld) -> None:
    round_, node = first_rejected(world)
    rejections = Table([((round_, node), replace(_rejection(world), ruling=None))])
    appeal, standing = Appeal("appeal", node, round_), Standing(banned="differs")
    assert not refusal(rejections, appeal, round_ + APPEAL_ROUNDS, standing)
    assert "no longer kept" in refusal(rejections, appeal, round_ + APPEAL_ROUNDS + 1, standing)
    follows = Table([((round_, node), replace(_rejection(world), ruling=None, proof=""))])
    assert "appeal against that one first" in refusal(follows, appeal, round_, standing)
    assert not refusal(follows, appeal, round_, Standing())
    assert parse_appeal(canonical_json(asdict(appeal))) == appeal


def _rejection(world: AppealedWorld) -> Any:
    reader = Reader(world.job, DOMAIN)
    for record in world.records:
        reader.take(record)
    return reader.rejections[first_rejected(world)]


# ---------------------------------------------------------------- the ledger


@pytest.fixture
def open_bank(tmp_path: Path, world: AppealedWorld) -> Iterator[Callable[[], Bank]]:
    banks: list[Bank] = []

    def open_it() -> Bank:
        banks.append(Bank(tmp_path / f"ledger-{len(banks)}.sqlite", world))
        return banks[-1].fill()

    yield open_it
    for bank in banks:
        bank.book.close()


def test_a_granted_appeal_pays_and_an_upheld_one_costs(open_bank: Callable[[], Bank], world: AppealedWorld) -> None:
    bank = open_bank()
    bank.finish(bank.account())
    accused, traitor, verifier = (
        bank.book.balances(bank.book.node_index(name) or 0) for name in (ACCUSED, TRAITOR, VERIFIER)
    )
    judged = {round_.open.round: round_ for round_ in judged_rounds(world.records)}
    sealed = {r.body.round: r.body for r in world.records if isinstance(r.body, Seal)}
    paid = sum(
        item.samples for number, round_ in judged.items() for item in sealed[number].commitments if item.node == ACCUSED
    )
    assert accused.slashed_wei == 0, "what was slashed is back"
    assert accused.earned_wei >= 0.9 * paid * PRICE_WEI, "all its work is paid, the rejected round's too"
    assert traitor.slashed_wei > 0 and traitor.earned_wei == 0
    from_audits = sum(
        credit.amount_wei
        for round_ in judged.values()
        for credit in round_credits(world.job, round_, {n: bank.indices[n] for n in round_.paid_nodes}, 50)
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
        for credit in round_credits(world.job, round_, {n: bank.indices[n] for n in round_.paid_nodes}, 50):
            listed.pop((credit.round, credit.node_index, credit.kind))
    index_of = {node.node: node.index for node in ledger.nodes}
    check_appeals(ruled_rounds(world.records), world.job, ledger, index_of, listed)
    assert not listed, "everything that is booked follows from a record"
    with pytest.raises(RefusedError, match="follows no ruling"):
        check_appeals([], world.job, ledger, index_of, {})


def test_rulings_on_an_escrow_that_has_lapsed_hold_up_nothing_and_are_said_once(
    open_bank: Callable[[], Bank], world: AppealedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """What was slashed before is the owner's again, and cannot be given back; what others have earned is paid."""
    bank = open_bank()
    account = bank.account([record for record in world.records if not isinstance(record.body, Ruling)])
    bank.treasury.advance([account])
    _post(bank)
    bank.lapse()
    other = "9" * 64
    bank.book.fund_job(other, 10**18, "fund/other")
    bank.book.credit([Credit(credit_id(other, 0, 50, "samples"), other, 0, 50, "samples", 10**17)], 0)
    for record in world.records:
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


def test_a_ruling_that_comes_after_the_close_is_dropped(open_bank: Callable[[], Bank], world: AppealedWorld) -> None:
    bank = open_bank()
    before = [record for record in world.records if not isinstance(record.body, Ruling)]
    account = bank.account(before)
    for _ in range(4):
        bank.treasury.advance([account])
        _post(bank)
        bank.now_s += NETWORK.window_s
    assert bank.book.job(world.job.job_id).closed
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
        assert has_ended(journal, world.job.job_id) and world.job.job_id in done_jobs(journal)


def test_what_could_not_be_replayed_again_stays_rejected_and_costs_nothing(
    open_bank: Callable[[], Bank], world: AppealedWorld
) -> None:
    """Nobody is paid for a replay that there was not."""
    records = [
        replace(record, body=replace(record.body, heard=record.body.granted))
        if isinstance(record.body, Ruling)
        else record
        for record in world.records
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
        check_appeals(ruled_rounds(records), world.job, ledger, index_of, {})


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("words", ["differs", "found out by a new proof"])
def test_what_an_appeal_has_cleared_and_a_new_proof_takes_out_is_slashed(
    open_bank: Callable[[], Bank], world: AppealedWorld, at_once: bool, words: str
) -> None:
    """Whatever the reasons say, and whether or not what the appeal gives back is booked before."""
    bank, job_id = open_bank(), world.job.job_id
    place, ruling = next((n, r.body) for n, r in enumerate(world.records) if isinstance(r.body, Ruling))
    assert ruling.granted and ruling.node == ACCUSED
    before = world.records[: place + 1]
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
    open_bank: Callable[[], Bank], world: AppealedWorld
) -> None:
    bank, plain = open_bank(), open_bank()
    place, ruling = next((n, r.body) for n, r in enumerate(world.records) if isinstance(r.body, Ruling))
    excised = (Excision(ruling.round, ruling.slot, ACCUSED, "differs"),)
    correct = Correct("correct", 99, excised, (CorrectedRound(ruling.round, (), 0),), "a" * 64, 0, (), False)
    late = Record(world.job.job_id, place, world.records[place - 1].hash, correct)
    bank.treasury.advance([bank.account([*world.records[:place], late, *world.records[place:]])])
    plain.treasury.advance([plain.account()])
    assert bank.book.balances(bank.indices[ACCUSED]) == plain.book.balances(bank.indices[ACCUSED])
    assert bank.book.balances(bank.indices[ACCUSED]).slashed_wei == 0


def test_a_job_is_not_closed_while_a_rejection_may_be_appealed(
    open_bank: Callable[[], Bank], world: AppealedWorld
) -> None:
    bank = open_bank()
    before = [record for record in world.records if not isinstance(record.body, Ruling)]
    account = bank.account(before)
    waits = True
    account.appeals_wait = lambda: waits
    for _ in range(5):
        bank.treasury.advance([account])
        if any(True for _ in bank.book.nodes()) and not bank.book.job(world.job.job_id).closed:
            bank.now_s += NETWORK.window_s
            _post(bank)
    assert not bank.book.job(world.job.job_id).closed, "an appeal waits"
    waits = False
    bank.treasury.advance([account])
    assert bank.book.job(world.job.job_id).closed


def _post(bank: Bank) -> None:
    from anynode_ledger.settlement import batches_of

    if any(stored.state == "pending" for stored in batches_of(bank.book)):
        bank.decide("posted")


def test_a_restart_after_every_record_books_each_appeal_once(
    open_bank: Callable[[], Bank], world: AppealedWorld
) -> None:
    whole, broken = open_bank(), open_bank()
    whole.finish(whole.account())
    for length in range(1, len(world.records) + 1):
        broken.treasury = broken.restarted()
        broken.treasury.advance([broken.account(world.records[:length])])
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
