"""A lazy auditor."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from conspiracy import Conspiracy
from court import Court
from workshop import Lie, Workshop

from anynode.rounds.course import Committed
from anynode.rounds.enquiries import Enquiry
from anynode.rounds.events import Answered, Plan, Recomputed
from anynode.rounds.judgements import Redone
from anynode.training.trace import trace_root

ATTACK = Attack(
    "a lazy auditor",
    "An auditor has the trace from the worker that it audits, and answers with it without doing the work.",
    "caught",
)
KEY = "5" * 64


def test_it_is_found_out_by_a_known_task_and_drawn_no_more(expect: Expect) -> None:
    world = Conspiracy("copies", seed=31)
    world.end()
    tasks = world.tasks(world.liar)
    assert any(task.outcome == "rejected" for task in tasks), tasks
    assert set(world.banned()) == {world.liar}
    others = [item for name in world.accounts if name != world.liar for item in world.work(name)]
    assert all(item.accepted for item in others)
    expect(Finding("caught", f"found out within {len(tasks)} tasks, and drawn no more"))


def honest(shop: Workshop) -> Lie:
    spec = shop.spec()
    return Lie(spec, shop.work(spec))


def test_a_trace_without_the_states_behind_it_is_no_answer(court: Court) -> None:
    """Real work, and two real replays of it: the worker's own leaves do not help who has not had its states."""
    lie = court.lie(honest)
    committed = Committed(
        0, "", 8, 32, lie.result.micro_batch, lie.result.update_root, lie.result.trace_root, "", "", 0, ""
    )
    enquiry = Enquiry(Plan(0, 1, 8, KEY, known=True), committed)
    copied = Redone(lie.result.update_root, trace_root(lie.result.leaves), "6" * 64)
    enquiry = enquiry.answered(Answered(1, 0, copied))
    for again in (False, True):
        enquiry = enquiry.recomputed(Recomputed(1, 0, again, court.recompute(lie, KEY)))
    assert (enquiry.awaits, enquiry.outcome) == ("", "rejected")
    assert enquiry.finding is not None and enquiry.finding.outcome == "accepted", "the worker loses nothing"
