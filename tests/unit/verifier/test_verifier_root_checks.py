"""A verifier signs a root that follows from its own records, and none that does not; it promises before it signs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bank import BUDGET_WEI, NETWORK, VERIFIER, Bank
from signed_world import SignedWorld

from anynode.rounds.course import Finish, Open
from anynode.rounds.judgements import Correct, CorrectedRound, Excision, Verdict
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.typed_data import RootStatement
from anynode_ledger.lapsing import finalised
from anynode_ledger.public import public_ledger
from anynode_ledger.settlement import batches_of
from anynode_verifier.holding_back import HELD_BACK_S
from anynode_verifier.root_checks import Knowledge, KnownNode, check_root
from anynode_verifier.root_promises import PROMISE_FILE, Promises

HERE = NETWORK.model_copy(update={"verifiers": (VERIFIER,)})
Change = Callable[[dict[str, Any]], None]


class Asked:
    """A batch that waits for signatures, and what an honest verifier knows beside it."""

    def __init__(self, bank: Bank, world: SignedWorld) -> None:
        self.world, self.bank = world, bank
        self.ledger = public_ledger(bank.book).model_dump(mode="json")
        batch = batches_of(bank.book)[-1].batch
        self.statement = RootStatement(
            batch.number, 0, bytes.fromhex(batch.root), batch.total_gwei, bytes.fromhex(batch.data_hash)
        )
        nodes = {node.node_index: KnownNode(node.node, frozenset({node.payout})) for node in bank.book.nodes()}
        posted = [stored.batch.root for stored in batches_of(bank.book) if stored.state == "posted"]
        with bank.book.read() as journal:
            undrawn_wei = journal.balances.undrawn_wei()
        jobs = {world.job.job_id: (world.job, world.records)}
        self.known = Knowledge(HERE, jobs, nodes, (posted or [""])[-1], undrawn_wei)

    def check(self, **known: Any) -> None:
        check_root(self.statement, self.ledger, replace(self.known, **known))


@pytest.fixture
def bank(tmp_path: Path, grown: SignedWorld) -> Iterator[Bank]:
    bank = Bank(tmp_path / "ledger.sqlite", grown, HERE).fill()
    yield bank
    bank.book.close()


@pytest.fixture
def first(bank: Bank, grown: SignedWorld) -> Asked:
    """The first batch of the job."""
    bank.treasury.advance([bank.account()])
    return Asked(bank, grown)


@pytest.fixture
def last(bank: Bank, grown: SignedWorld) -> Asked:
    """The last batch, with what was held back."""
    account = bank.account()
    bank.treasury.advance([account])
    bank.decide("posted")
    bank.now_s += HERE.window_s
    bank.treasury.advance([account])
    return Asked(bank, grown)


def test_what_follows_is_signed(first: Asked) -> None:
    first.check()


def test_the_last_root_of_a_job_is_signed(last: Asked) -> None:
    assert last.known.active_root
    last.check()


def test_a_batch_may_be_settled_before_the_last_verdict_is_in(bank: Bank, grown: SignedWorld) -> None:
    """Whoever is asked may know more than was booked, and must not know less."""
    verdicts = [place for place, item in enumerate(grown.records) if isinstance(item.body, Verdict)]
    account = bank.account(grown.records[: verdicts[2] + 1])
    bank.treasury.advance([account])
    bank.now_s += 2 * 3600
    bank.treasury.advance([account])
    asked = Asked(bank, grown)
    asked.check()
    with pytest.raises(RefusedError, match="no record earns"):
        asked.check(jobs={grown.job.job_id: (grown.job, grown.records[: verdicts[1] + 1])})


def test_another_root_than_the_ledgers_is_not_signed(first: Asked) -> None:
    other = first.statement
    for changed in (
        replace(other, root=b"\1" * 32),
        replace(other, total_gwei=other.total_gwei + 1),
        replace(other, data_hash=b"\1" * 32),
        replace(other, batch=2),
    ):
        with pytest.raises(RefusedError, match="another root"):
            check_root(changed, first.ledger, first.known)


def test_a_ledger_that_does_not_go_on_from_the_chain_is_not_signed(first: Asked, last: Asked) -> None:
    with pytest.raises(RefusedError, match="go on from the root"):
        first.check(active_root="1" * 64)
    with pytest.raises(RefusedError, match="go on from the root"):
        last.check(active_root="")


def test_who_is_unknown_here_is_not_paid(first: Asked) -> None:
    index = next(iter(first.known.nodes))
    with pytest.raises(RefusedError, match=f"node {index} is not known here"):
        first.check(nodes={key: node for key, node in first.known.nodes.items() if key != index})
    with pytest.raises(RefusedError, match="which the registry does not name"):
        nodes = {key: replace(node, payouts=frozenset({VERIFIER})) for key, node in first.known.nodes.items()}
        first.check(nodes=nodes)
    with pytest.raises(RefusedError, match=r"job .* is not known here"):
        first.check(jobs={})


def test_held_back_pay_is_released_when_the_job_is_over_on_a_development_chain(last: Asked) -> None:
    job, records = last.known.jobs[last.world.job.job_id]
    unfinished = [item for item in records if not isinstance(item.body, Finish)]
    with pytest.raises(RefusedError, match="is not over"):
        last.check(jobs={job.job_id: (job, unfinished)})


def test_on_a_public_chain_held_back_pay_is_released_14_days_later(tmp_path: Path, grown: SignedWorld) -> None:
    network = HERE.model_copy(update={"chain_id": 10})
    bank = Bank(tmp_path / "public.sqlite", grown, network).fill()
    account = bank.account()
    bank.treasury.advance([account])
    bank.decide("posted")
    bank.now_s += network.window_s
    bank.drawn_at_s = 3_000
    bank.reach(3_000 + HELD_BACK_S)
    bank.treasury.advance([account])
    asked, job_id = Asked(bank, grown), grown.job.job_id
    asked.check(network=network, drawn_at_s={job_id: 3_000}, now_s=3_000 + HELD_BACK_S)
    for drawn_at_s, now_s in ((3_000, 2_999 + HELD_BACK_S), (math.inf, 3_000 + HELD_BACK_S)):
        with pytest.raises(RefusedError, match="stays at stake for 14 days"):
            asked.check(network=network, drawn_at_s={job_id: drawn_at_s}, now_s=now_s)
    bank.book.close()


def test_as_much_is_held_back_as_the_network_asks_for(first: Asked) -> None:
    with pytest.raises(RefusedError, match="are held back, not"):
        first.check(network=HERE.model_copy(update={"held_back_limit_wei": HERE.held_back_limit_wei * 2}))


def test_who_was_found_out_is_slashed_and_nobody_else(first: Asked) -> None:
    slash = next(item for item in first.ledger["decisions"] if item["kind"] == "slash")
    spared = copy.deepcopy(first.ledger)
    spared["decisions"].remove(slash)
    with pytest.raises(RefusedError, match=r"follows no decision|is not slashed"):
        check_root(first.statement, spared, first.known)
    honest = next(node["index"] for node in spared["nodes"] if node["index"] != slash["node_index"])
    accused = copy.deepcopy(first.ledger)
    accused["decisions"].append(slash | {"id": f"{slash['job_id']}/0/{honest}", "node_index": honest})
    with pytest.raises(RefusedError, match=r"decision .* books"):
        check_root(first.statement, accused, first.known)


def test_what_is_taken_out_late_has_a_slash_of_its_own(bank: Bank, grown: SignedWorld) -> None:
    records = list(grown.records)
    opened = next(record.body for record in records if isinstance(record.body, Open))
    honest = opened.members[0].node
    excised, left = (Excision(0, 0, honest, "its update differs"),), (CorrectedRound(0, (), 0),)
    correct = Correct("correct", 9, excised, left, "a" * 64, 0, (), False)
    after = [*records, Record(grown.job.job_id, len(records), records[-1].hash, correct)]
    bank.treasury.advance([bank.account(after)])
    asked, jobs = Asked(bank, grown), {grown.job.job_id: (grown.job, after)}
    asked.check(jobs=jobs)
    with pytest.raises(RefusedError, match="follows from no record"):
        asked.check()
    late_id = f"{grown.job.job_id}/0/{bank.indices[honest]}/excised"
    slash = next(item for item in asked.ledger["decisions"] if item["id"] == late_id)
    slash["node_index"] += 1
    with pytest.raises(RefusedError, match=r"books .*, rebuilt are"):
        asked.check(jobs=jobs)
    asked.ledger["decisions"].remove(slash)
    with pytest.raises(RefusedError, match=r"follows no decision|is not slashed"):
        asked.check(jobs=jobs)


def test_the_root_that_pays_what_a_lapsed_job_held_back_is_signed(bank: Bank, grown: SignedWorld) -> None:
    """Some of its rounds were judged too late to be booked: it is released, and not closed."""
    place = next(n for n, item in enumerate(grown.records) if isinstance(item.body, Verdict) and item.body.round == 1)
    account = bank.account(grown.records[: place + 1])
    for _ in range(2):
        bank.treasury.advance([account])
        bank.now_s += 3_600.0
    bank.decide("posted")
    bank.lapse()
    for record in grown.records[place + 1 :]:
        account.add(record)
    for _ in range(2):
        bank.treasury.advance([account])
        bank.now_s += HERE.window_s
    asked = Asked(bank, grown)
    assert {item["kind"] for item in asked.ledger["decisions"]} == {"slash", "release"}
    assert asked.known.active_root and not account.complete
    asked.check()
    unfinished = [item for item in grown.records if not isinstance(item.body, Finish)]
    with pytest.raises(RefusedError, match="is not over"):
        asked.check(jobs={grown.job.job_id: (grown.job, unfinished)})


def test_what_lapses_has_lapsed_by_the_chain(bank: Bank, grown: SignedWorld) -> None:
    job_id = grown.job.job_id
    with bank.book.write() as journal:
        finalised(journal, job_id)
    bank.book.fund_job(job_id, BUDGET_WEI, "fund/2")  # or no round could be booked
    bank.treasury.advance([bank.account()])
    asked = Asked(bank, grown)
    asked.check()
    for undrawn_wei in ({}, {job_id: asked.known.undrawn_wei[job_id] - BUDGET_WEI - 1}):
        with pytest.raises(RefusedError, match="cannot be drawn any more"):
            asked.check(undrawn_wei=undrawn_wei)


def test_one_root_is_promised_for_one_place(tmp_path: Path) -> None:
    root = RootStatement(3, 1, b"\1" * 32, 7, b"\2" * 32)
    Promises(tmp_path, HERE).make(root)
    promises = Promises(tmp_path, HERE)  # as after a restart
    promises.make(root)
    for broken in (
        replace(root, root=b"\3" * 32),
        replace(root, data_hash=b"\3" * 32),
        replace(root, total_gwei=8),
        replace(root, batch=2, cancelled=1),
        replace(root, cancelled=0),
    ):
        with pytest.raises(RefusedError, match="another root was signed here for batch 3"):
            promises.make(broken)
    promises.make(replace(root, cancelled=2, root=b"\3" * 32))
    promises.make(replace(root, batch=4, cancelled=2, root=b"\4" * 32))
    with pytest.raises(RefusedError, match="another root was signed"):
        promises.make(root)
    elsewhere = HERE.model_copy(update={"distributor": f"0x{999:040d}"})
    Promises(tmp_path, elsewhere).make(root)


def test_a_damaged_promise_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / PROMISE_FILE).write_text("{")
    with pytest.raises(UserError, match="may sign two roots"):
        Promises(tmp_path, HERE).make(RootStatement(3, 1, b"\1" * 32, 7, b"\2" * 32))
