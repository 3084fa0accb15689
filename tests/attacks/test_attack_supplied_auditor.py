"""An auditor that a worker supplies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from attack import Attack, Expect, Finding
from blake3 import blake3
from court import Court
from workshop import STEPS, Lie, Workshop

from anynode.rounds.course import Committed
from anynode.rounds.enquiries import Enquiry
from anynode.rounds.events import Answered, Plan, Recomputed
from anynode.rounds.judgements import Redone
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import work
from anynode.training.messages import WorkSpec
from anynode_verifier.known_tasks import known_share_ppm
from anynode_verifier.rates import COST_PERCENT, break_even_ppm

ATTACK = Attack(
    "an auditor that a worker supplies",
    "A worker hands the leaves and all states of its work to the auditor that is drawn for it, which trains nothing.",
    "unprofitable",
)
KEY = "5" * 64


@dataclass(frozen=True)
class Supplied(Lie):
    """What a worker commits to, and the proof that its states give."""

    proof: str

    @property
    def answer(self) -> Redone:
        return Redone(self.result.update_root, self.result.trace_root, self.proof)

    @property
    def committed(self) -> Committed:
        result = self.result
        return Committed(0, "", STEPS, 32, result.micro_batch, result.update_root, result.trace_root, "", "", 0, "")


def supplied(shop: Workshop, trained: WorkSpec) -> Supplied:
    """The work dealt, as far as its trace says; ``trained`` is what was done. Its states answer the task's key."""
    spec, key = shop.spec(), bytes.fromhex(KEY)
    seen = blake3(key=key)
    result = work(
        shop.workload,
        shop.states[spec.state_root],
        trained,
        shop.store.put,
        on_state=lambda _, vectors: seen.update(bytes.fromhex(state_fingerprint(*vectors, key=key))),
    )
    return Supplied(spec, shop.with_true_inputs(spec, result), seen.hexdigest())


def honest(shop: Workshop) -> Supplied:
    return supplied(shop, shop.spec())


def cheat(shop: Workshop) -> Supplied:
    spec = shop.spec()
    return supplied(shop, replace(spec, indices=(0,) * len(spec.indices)))


def test_of_work_that_was_done_its_answer_is_the_true_one(court: Court) -> None:
    """So no task over such work could show it, however it is chosen: what is asked for is there already."""
    lie = court.lie(honest)
    assert isinstance(lie, Supplied) and lie.answer == court.recompute(lie, KEY)


@pytest.mark.parametrize("known", [True, False])
def test_of_false_work_it_falls_with_its_worker_where_the_task_is_known(court: Court, known: bool) -> None:
    lie = court.lie(cheat)
    assert isinstance(lie, Supplied)
    enquiry = Enquiry(Plan(0, 1, STEPS, KEY, known), lie.committed).answered(Answered(1, 0, lie.answer))
    assert enquiry.confirms and enquiry.awaits == ("own" if known else "")
    for again in (False, True) if known else ():
        enquiry = enquiry.recomputed(Recomputed(1, 0, again, court.recompute(lie, KEY)))
    assert (enquiry.outcome, enquiry.finding and enquiry.finding.outcome) == (
        ("rejected", "rejected") if known else ("accepted", "accepted")
    )


def test_it_does_not_pay_were_all_auditors_its_friends(expect: Expect) -> None:
    """Stakes in rewards of a round, at the rates and shares that they ask for."""
    for worker, auditor in [(33, 33), (10, 33), (33, 3), (1, 1), (0, 33)]:
        rate = break_even_ppm(1_000_000, worker * 1_000_000) / EVERY_TIME_PPM
        known = known_share_ppm(1_000_000, auditor * 1_000_000, worker * 1_000_000) / EVERY_TIME_PPM
        assert rate * known * (worker + 1 + auditor) > COST_PERCENT / 100, (worker, auditor)
    expect(Finding("unprofitable", "true of work that was done; of false work both fall in nearly half of the tasks"))
