"""From verdicts to money in a real book: paid once whatever crashes, and nothing for a cheat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from bank import BUDGET_WEI, HELD_BACK_WEI, NETWORK, VERIFIER, Bank, up_to
from signed_world import PRICE_WEI, SignedWorld, make_job
from sqlalchemy import select

from anynode.rounds.course import Close, Finish, Open, Result, Seal
from anynode.rounds.judgements import Correct, CorrectedRound, Excision, ReductionJudged, Verdict
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError
from anynode_ledger import schema
from anynode_ledger.pay import Credit
from anynode_ledger.public import public_ledger
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import batches_of
from anynode_verifier.credit_checks import check_credits
from anynode_verifier.credits import judged_rounds, ruled_rounds
from anynode_verifier.found_out import found_out, slash_id
from anynode_verifier.holding_back import HELD_BACK_S
from anynode_verifier.treasury import JobAccount


class CrashError(Exception):
    """The process dies here."""


def cheats_of(world: SignedWorld) -> set[str]:
    return {name for name, peer in world.peers.items() if peer.cheats}


def test_the_honest_earn_and_the_cheats_have_nothing(bank: Bank, grown: SignedWorld) -> None:
    bank.treasury.advance([bank.account()])
    earned, cheats = bank.earned(), cheats_of(grown)
    assert len(cheats) == 2
    assert all(earned[name] == 0 for name in cheats)
    assert all(earned[name] > 0 for name in grown.accounts if name not in cheats)
    assert earned[VERIFIER] > 0
    sealed = {r.body.round: r.body for r in grown.records if isinstance(r.body, Seal)}
    good = sum(
        sealed[r.body.round].commitments[n].samples
        for r in grown.records
        if isinstance(r.body, Verdict)
        for n, item in enumerate(r.body.judged)
        if item.accepted
    )
    assert 0.9 * good * PRICE_WEI <= sum(earned.values()) <= good * PRICE_WEI
    bank.book.totals()  # proves that debits equal credits


def test_a_round_is_booked_when_its_verdict_is_in(bank: Bank, grown: SignedWorld) -> None:
    account = bank.account(up_to(grown.records, Close, 0))
    bank.treasury.advance([account])
    assert set(bank.earned().values()) == {0}
    known = len(up_to(grown.records, Close, 0))
    for record in up_to(grown.records, Verdict, 0)[known:]:
        account.add(record)
    bank.treasury.advance([account])
    assert account.booked == {0}
    assert not account.complete
    before = bank.earned()
    bank.treasury.advance([account])
    assert bank.earned() == before, "a second look pays nothing"


def test_on_a_public_chain_held_back_pay_waits_for_14_days_of_the_chain(
    open_bank: Callable[..., Bank], grown: SignedWorld
) -> None:
    """Counted from the block of the last draw by final blocks; as long as nobody knows that block, it waits."""
    network = NETWORK.model_copy(update={"chain_id": 10})
    bank = open_bank(network).fill()
    account, job_id = bank.account(), grown.job.job_id

    bank.treasury.advance([account])
    bank.decide("posted")
    bank.now_s += network.window_s
    for drawn_at_s, time_s, closed in (
        (None, 2_000 + HELD_BACK_S, False),
        (3_000, 2_999 + HELD_BACK_S, False),
        (3_000, 3_000 + HELD_BACK_S, True),
    ):
        bank.drawn_at_s = drawn_at_s
        bank.reach(time_s)
        bank.treasury.advance([account])
        assert bank.book.job(job_id).closed is closed
    assert all(node.held_back_wei == 0 for node in bank.book.nodes())


def test_a_job_is_brought_to_its_end(bank: Bank, grown: SignedWorld) -> None:
    """Last batch, release of what was held back, final batch, then nothing more."""
    account, job_id = bank.account(), grown.job.job_id
    bank.treasury.advance([account])
    assert account.complete
    assert [stored.state for stored in batches_of(bank.book)] == ["pending"]
    assert not bank.book.job(job_id).closed
    bank.treasury.advance([account])
    assert len(batches_of(bank.book)) == 1, "a waiting root is never replaced"
    bank.decide("posted")
    held = {node.node: node.held_back_wei for node in bank.book.nodes()}
    assert held[VERIFIER] + sum(held[name] for name in grown.accounts) > 0
    bank.treasury.advance([account])
    assert not bank.book.job(job_id).closed, "a rejection may still be appealed"
    bank.now_s += NETWORK.window_s
    bank.treasury.advance([account])
    assert bank.book.job(job_id).closed
    assert all(node.held_back_wei == 0 for node in bank.book.nodes())
    bank.decide("posted")
    bank.treasury.advance([account])
    assert len(batches_of(bank.book)) == 2
    nodes = bank.book.nodes()
    assert all(node.payable_wei + node.dust_wei == node.earned_wei for node in nodes)
    newest = batches_of(bank.book)[-1].batch
    paid = {entry.index: entry.cumulative_gwei for entry in newest.entries}
    assert paid == {node.node_index: node.earned_wei // 10**9 for node in nodes if node.earned_wei >= 10**9}


def test_a_restart_after_the_end_changes_nothing(bank: Bank) -> None:
    bank.finish(bank.account())
    before, nodes = bank.book.totals(), bank.book.nodes()
    bank.treasury = bank.restarted()
    bank.finish(bank.account())
    assert (bank.book.totals(), bank.book.nodes()) == (before, nodes)
    assert len(batches_of(bank.book)) == 2


def test_a_restart_after_every_record_gives_the_same_book(open_bank: Callable[..., Bank], grown: SignedWorld) -> None:
    whole, broken = open_bank().fill(), open_bank().fill()
    whole.finish(whole.account())
    for length in range(1, len(grown.records) + 1):
        broken.treasury = broken.restarted()
        broken.treasury.advance([broken.account(grown.records[:length])])
    broken.finish(broken.account())
    assert broken.earned() == whole.earned()
    assert broken.book.totals() == whole.book.totals()


def test_what_is_taken_out_of_the_model_costs_what_is_still_held_back(bank: Bank, grown: SignedWorld) -> None:
    """Once its round is booked, and once for each round, whether by its verdict or by a correction."""
    records = up_to(grown.records, Verdict, 0)
    opened = next(record.body for record in records if isinstance(record.body, Open))
    node, other = opened.members[0].node, opened.members[1].node
    late = Record(grown.job.job_id, len(records), records[-1].hash, excision(0, 0, node))
    unbooked = bank.account([*records[:-1], late])
    bank.treasury.advance([unbooked])
    assert unbooked.excised == [], "its round has no verdict that could be booked"
    account = bank.account(records)
    bank.treasury.advance([account])
    held = {item.node: item.held_back_wei + item.accrued_wei for item in bank.book.nodes()}
    assert held[node] > 0
    account.add(late)
    for _ in range(2):
        bank.treasury.advance([account])
        after = {item.node: (item.held_back_wei + item.accrued_wei, item.slashed_wei) for item in bank.book.nodes()}
        assert after[node] == (0, held[node])
        assert after[other] == (held[other], 0)
    bank.book.totals()


def test_who_is_found_out_as_a_reducer_and_late_for_its_work_is_slashed_for_both(
    bank: Bank, grown: SignedWorld
) -> None:
    """Its verdict gives one reason, the correction another: each has a slash of its own, also after a restart."""
    records = up_to(grown.records, Verdict, 1)
    opened, result = (up_to(records, kind, 1)[-1].body for kind in (Open, Result))
    verdict = records[-1].body
    assert isinstance(opened, Open) and isinstance(result, Result) and isinstance(verdict, Verdict)
    entry = result.chunks[0]
    node = opened.members[entry.reducer].node
    assert next(item for item in verdict.judged if item.node == node).accepted
    blamed = (ReductionJudged(entry.chunk, entry.reducer, node, "rejected", "another sum"),)
    records[-1] = replace(records[-1], body=replace(verdict, reductions=blamed))
    account = bank.account(records)
    bank.treasury.advance([account])
    slashed = {item.node: item.slashed_wei for item in bank.book.nodes()}
    assert slashed[node] > 0
    late = Record(grown.job.job_id, len(records), records[-1].hash, excision(opened.round, entry.reducer, node))
    for found in (account, bank.account([*records, late])):
        if found is account:
            account.add(late)
        bank.treasury.advance([found])
        assert [item.held_back_wei + item.accrued_wei for item in bank.book.nodes() if item.node == node] == [0]
        bank.treasury = bank.restarted()
    with bank.book.read() as journal:
        ids = journal.connection.execute(select(schema.decisions.c.id).where(schema.decisions.c.kind == "slash"))
        name = f"{grown.job.job_id}/{opened.round}/{bank.indices[node]}"
        assert {found for found in ids.scalars() if found.startswith(name)} == {name, f"{name}/excised"}
    bank.book.totals()


def excision(round_: int, slot: int, node: str, reason: str = "its update differs") -> Correct:
    """The correction that takes one slot out, in place of the next round."""
    excised, left = (Excision(round_, slot, node, reason),), (CorrectedRound(round_, (), 0),)
    return Correct("correct", round_ + 1, excised, left, "a" * 64, 0, (), False)


@pytest.mark.parametrize("method", ["credit", "slash", "close_job"])
@pytest.mark.parametrize("done", [False, True])
def test_a_crash_beside_each_booking_is_repeated_without_harm(
    open_bank: Callable[..., Bank], monkeypatch: pytest.MonkeyPatch, method: str, done: bool
) -> None:
    """The process dies before or after the transaction, again and again at each further one."""
    whole, broken = open_bank().fill(), open_bank().fill()
    whole.finish(whole.account())
    real, calls, crashes = getattr(broken.book, method), set[object](), 0

    def crashing(*arguments: object) -> object:
        first = repr(arguments) not in calls
        calls.add(repr(arguments))
        result = real(*arguments) if done or not first else None
        if first:
            raise CrashError
        return result

    monkeypatch.setattr(broken.book, method, crashing)
    for _ in range(30):
        broken.treasury = broken.restarted()
        try:
            broken.finish(broken.account())
            break
        except CrashError:
            crashes += 1
    assert crashes >= (1 if method == "close_job" else 2)
    assert broken.earned() == whole.earned()
    assert broken.book.totals() == whole.book.totals()
    assert finalised(broken) == finalised(whole) == {broken.world.job.job_id}
    assert broken.book.job(broken.world.job.job_id) == whole.book.job(whole.world.job.job_id)


def test_a_round_waits_for_the_registration_of_its_members(open_bank: Callable[..., Bank], grown: SignedWorld) -> None:
    late = next(name for name in grown.accounts if name not in cheats_of(grown))
    bank = open_bank().fill(without=late)
    account = bank.account()
    bank.treasury.advance([account])
    assert account.booked == set()
    assert not account.complete
    bank.book.register_node(bank.indices[late], late, late)
    bank.treasury.advance([account])
    assert account.complete
    assert bank.earned()[late] > 0


def test_nothing_is_booked_before_the_verifier_is_registered(open_bank: Callable[..., Bank]) -> None:
    bank, account = open_bank(), open_bank().account()
    bank.treasury.advance([account])
    assert account.booked == set()
    bank.fill()
    bank.treasury.advance([account])
    assert account.complete


def test_an_empty_escrow_makes_rounds_wait_until_it_is_funded(
    open_bank: Callable[..., Bank], grown: SignedWorld
) -> None:
    bank = open_bank().fill(budget_wei=40 * PRICE_WEI)
    account = bank.account()
    bank.treasury.advance([account])
    assert account.booked == {0}
    assert not account.complete
    bank.book.fund_job(grown.job.job_id, BUDGET_WEI, "fund/2")
    bank.treasury.advance([account])
    assert account.complete


@pytest.mark.parametrize("restarts", [False, True])
def test_what_lies_in_the_distributor_is_paid_though_the_escrow_has_lapsed_before_the_last_verdicts(
    bank: Bank, grown: SignedWorld, restarts: bool
) -> None:
    """The rounds judged later are not paid, whoever is found out in them is slashed, and nothing is held up."""
    early, job = up_to(grown.records, Verdict, 1), grown.job
    account = bank.account(early)
    bank.treasury.advance([account])
    bank.now_s += 3_600.0
    bank.treasury.advance([account])
    bank.decide("posted")
    bank.lapse()
    held = {node.node: node.held_back_wei for node in bank.book.nodes()}
    assert sum(held.values()) > 0
    for record in grown.records[len(early) :]:
        account.add(record)
    for _ in range(6):
        if restarts:
            bank.treasury, account = bank.restarted(), bank.account()
        bank.treasury.advance([account])
        bank.now_s += NETWORK.window_s
        if any(stored.state == "pending" for stored in batches_of(bank.book)):
            bank.decide("posted")
    paid = {node.node: node.payable_wei + node.dust_wei for node in bank.book.nodes()}
    assert all(node.held_back_wei == node.accrued_wei == 0 for node in bank.book.nodes())
    assert all(paid[name] >= held[name] > 0 for name in grown.accounts if held[name] and name not in cheats_of(grown))
    assert all(paid[name] == 0 for name in cheats_of(grown))
    assert len(batches_of(bank.book)) == 2 and finalised(bank) == set()
    assert not bank.book.job(job.job_id).closed, "a close would say that every round is booked"
    ledger = public_ledger(bank.book)
    rebuild(ledger.model_dump(mode="json"), NETWORK.daily_cap_gwei)
    judged, ruled = judged_rounds(grown.records), ruled_rounds(grown.records)
    assert check_credits(judged, job, ledger, [VERIFIER], ruled) == 3, "three rounds are not paid"
    slashed = {item.id for item in ledger.decisions if item.kind == "slash"}
    found = {slash_id(job.job_id, item.round, bank.indices[item.node]) for item in found_out(grown.records)}
    assert found == slashed
    with pytest.raises(RefusedError, match="has ended"):
        bank.book.credit([Credit(f"{job.job_id}/9/50/audit", job.job_id, 9, 50, "audit", 1)], 0)


def test_on_a_public_chain_what_is_held_back_stays_a_stake(open_bank: Callable[..., Bank], grown: SignedWorld) -> None:
    bank = open_bank(NETWORK.model_copy(update={"chain_id": 11155111})).fill()
    bank.finish(bank.account())
    honest = [name for name in grown.accounts if name not in cheats_of(grown)]
    held = {node.node: node.held_back_wei for node in bank.book.nodes()}
    assert all(held[name] == HELD_BACK_WEI for name in honest)
    assert not bank.book.job(grown.job.job_id).closed
    assert len(batches_of(bank.book)) == 1


def test_a_job_is_complete_only_with_its_last_record_and_all_verdicts(grown: SignedWorld) -> None:
    account = JobAccount(grown.job, list(grown.records))
    assert not account.complete, "nothing is booked"
    account.booked |= set(range(5))
    assert account.complete
    unfinished = JobAccount(grown.job, [record for record in grown.records if not isinstance(record.body, Finish)])
    unfinished.booked |= set(range(5))
    assert not unfinished.complete
    unjudged = JobAccount(grown.job, [record for record in grown.records if not isinstance(record.body, Verdict)])
    unjudged.booked |= {0, 1, 2, 3}
    assert not unjudged.complete


def test_two_jobs_that_end_together_are_both_finalised(bank: Bank, grown: SignedWorld) -> None:
    """Only one root waits at a time, so the second job is closed after the first one's last root."""
    other = SignedWorld(make_job("other", rounds=1), seed=4, members=3)
    other.run(600.0)
    for name in other.accounts:
        assert name in bank.indices
    bank.book.fund_job(other.job.job_id, BUDGET_WEI, "fund/other")
    accounts = [bank.account(), JobAccount(other.job, other.records)]
    for _ in range(20):
        bank.treasury.advance(accounts)
        bank.now_s += NETWORK.window_s
        if any(stored.state == "pending" for stored in batches_of(bank.book)):
            bank.decide("posted")
    assert all(bank.book.job(job.job_id).closed for job in (grown.job, other.job))
    assert finalised(bank) == {grown.job.job_id, other.job.job_id}
    assert all(node.payable_wei + node.dust_wei == node.earned_wei for node in bank.book.nodes())


def finalised(bank: Bank) -> set[str]:
    """The jobs whose last transaction to the escrow is queued."""
    with bank.book.read() as journal:
        table = schema.outbox_intents
        return set(journal.connection.execute(select(table.c.subject).where(table.c.kind == "finalise")).scalars())
