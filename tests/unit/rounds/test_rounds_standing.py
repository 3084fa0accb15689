"""What verdicts make of a node: proven by an audit, excluded by a failed one, a newcomer again after three voids."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from round_actors import ALICE

from anynode.rounds.judgements import Evidence, Judged, Outcome
from anynode.rounds.standing import VOIDS_MAX, Standing, after_admission, after_judgement, after_rejection


def judged(outcome: Outcome, evidence: Evidence = "exact") -> Judged:
    return Judged(0, ALICE, outcome, evidence, "differs" if outcome == "rejected" else "", proof(outcome))


def proof(outcome: Outcome) -> str:
    return "ab" * 32 if outcome == "rejected" else ""


def after(*items: Judged, start: Standing | None = None) -> Standing:
    standing = start or Standing()
    for item in items:
        standing = after_judgement(standing, item)
    return standing


def test_only_accepted_audits_count() -> None:
    """Work that the draw passed by shows nothing."""
    assert after(judged("accepted", "none")) == Standing()
    assert after(judged("accepted"), judged("accepted", "none"), judged("accepted")) == Standing(proven=True, audits=2)
    assert after_admission(Standing()) == Standing(proven=True), "the verdict of the round counts it"


def test_a_failure_excludes_for_good() -> None:
    failed = after(judged("accepted"), judged("rejected"))
    assert failed == Standing(banned="differs", rejections=1, before=1)
    follows = replace(judged("rejected"), proof="")
    assert after(follows, start=failed) == failed, "what is rejected for that is no news"
    assert after(follows) == Standing(), "nor when the exclusion was taken back meanwhile"
    assert after_rejection(failed, "lies as an auditor") == replace(failed, final=True)
    assert after(judged("accepted"), judged("void"), start=failed).banned == "differs"
    assert not after(judged("accepted"), start=failed).proven
    assert after_rejection(failed, "another reason").banned == "differs", "the first reason is the one that counts"


def test_three_voids_in_a_row_make_a_newcomer() -> None:
    proven = after(judged("accepted"), judged("accepted"))
    assert after(*[judged("void")] * (VOIDS_MAX - 1), start=proven).proven
    assert after(*[judged("void")] * VOIDS_MAX, start=proven) == Standing()
    passed_by = [judged("void"), judged("accepted", "none")] * VOIDS_MAX
    assert after(*passed_by, start=proven) == Standing(), "who is not drawn meanwhile has shown nothing"
    between = [judged("void"), judged("void"), judged("accepted"), judged("void"), judged("void")]  # an audit
    assert after(*between, start=proven) == Standing(proven=True, audits=3, voids=2)


@given(st.lists(st.sampled_from(["accepted", "rejected", "void"]), max_size=30))
def test_nobody_is_proven_and_excluded(outcomes: list[Outcome]) -> None:
    standing = after(*(judged(outcome) for outcome in outcomes))
    assert not (standing.proven and standing.banned)
    assert bool(standing.banned) == ("rejected" in outcomes)
    assert 0 <= standing.voids < VOIDS_MAX
