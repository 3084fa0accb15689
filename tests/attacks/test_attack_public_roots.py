"""An auditor answers with what is public."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from court import Court
from workshop import Lie, Workshop

from anynode.rounds.course import Committed
from anynode.rounds.enquiries import Enquiry
from anynode.rounds.events import Answered, Plan, Recomputed
from anynode.worker.audit_request import AuditAnswer

ATTACK = Attack(
    "an auditor answers with public roots",
    "An auditor takes update root and trace root of the work from the seal, and makes up the leaves of the trace.",
    "caught",
)
KEY = "5" * 64


def honest(shop: Workshop) -> Lie:
    spec = shop.spec()
    return Lie(spec, shop.work(spec))


def test_leaves_cannot_be_made_up_for_a_root(court: Court, expect: Expect) -> None:
    lie = court.lie(honest)
    result = lie.result
    committed = Committed(0, "", 8, 32, result.micro_batch, result.update_root, result.trace_root, "", "", 0, "")
    made_up = tuple(replace(leaf, after=f"{leaf.segment:064x}") for leaf in result.leaves)
    answer = AuditAnswer(made_up, result.update_root, "6" * 64)
    enquiry = Enquiry(Plan(0, 1, 8, KEY, known=False), committed).answered(Answered(1, 0, answer.redone))
    assert not enquiry.confirms and enquiry.awaits == "own", "it is compared with a replay, though it is not known"
    for again in (False, True):
        enquiry = enquiry.recomputed(Recomputed(1, 0, again, court.recompute(lie, KEY)))
    assert enquiry.outcome == "rejected"
    assert enquiry.finding is not None and enquiry.finding.outcome == "accepted"
    expect(Finding("caught", "its leaves do not hash to the root, and two replays agree on others"))
