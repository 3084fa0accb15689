"""Every single thing that a coordinator may not sign, though its signature is genuine: an auditor refuses the chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from signed_world import DOMAIN, SignedWorld
from tampering import (
    STRANGER,
    Edit,
    another_member_reduced,
    at,
    blames,
    drawn_work_passed_by,
    edit_assign,
    edit_close,
    edit_finish,
    edit_open,
    edit_result,
    edit_seal,
    edit_verdict,
    end_early,
    first_chunk,
    first_commitment,
    first_member,
    first_reduction,
    judged_by_other_segments,
    judgement,
    more_steps_than_dealt,
    new_beginning,
    newcomer,
    rechain,
    reducer_counts_a_sender_twice,
    rejected_on_a_tolerance,
    second_assign,
    swapped,
    twice,
    undrawn_work_audited,
    with_body,
    without,
)
from world_cast import START_ROOT

from anynode.rounds.course import Assign, Begin, Close, Finish, Open, Reason, Reducer, Report, Result, Seal
from anynode.rounds.judgements import Claimed, Judged, ReductionJudged, Verdict
from anynode_contracts.errors import RefusedError
from anynode_verifier.lineage import follow

TAMPERINGS: dict[str, tuple[Edit, str]] = {
    # the deal
    "other ranges": (edit_open(lambda o: replace(o, ranges=(o.ranges[1], o.ranges[0], *o.ranges[2:]))), "deals other"),
    "a grown cursor": (edit_open(lambda o: replace(o, cursor=o.cursor + 2)), "deals other"),
    "a sample back in the pool": (edit_open(lambda o: replace(o, returned=(*o.returned, (0, 1)))), "deals other"),
    "another beacon than dealt by": (edit_open(lambda o: replace(o, beacon="0xff")), "deals other"),
    "a larger quota": (edit_open(lambda o: first_member(quota_steps=o.members[0].quota_steps + 1)(o)), "deals other"),
    # the opening
    "another start state": (edit_open(lambda o: replace(o, state_root="e" * 64)), "another state"),
    "a round skipped": (edit_open(lambda o: replace(o, round=2)), "another state"),
    "moments at another time": (edit_open(lambda o: replace(o, refresh=not o.refresh)), "refreshes"),
    "a newcomer called proven": (edit_open(newcomer(proven=True)), "no audit has shown"),
    "a founder called proven": (edit_open(first_member(proven=True), 0), "no audit has shown"),
    "a proven one called newcomer": (edit_open(first_member(proven=False)), "no audit has shown"),
    "a slot of another number": (edit_open(first_member(slot=1)), "one slot"),
    "one node twice": (edit_open(lambda o: replace(o, members=(o.members[0],) * len(o.members))), "one slot"),
    "a round opened twice": (twice(Open, 1), "out of order"),
    "a quota of more than twice the round": (edit_open(first_member(quota_steps=11)), "quota out of bounds"),
    "more for a newcomer than newcomers get": (edit_open(newcomer(quota_steps=6)), "more than newcomers' work"),
    "a quota of nothing": (edit_open(first_member(quota_steps=0)), "quota out of bounds"),
    "other inner steps than the job's": (edit_open(lambda o: replace(o, inner_steps=6)), "other inner steps"),
    "a round without end": (edit_open(lambda o: replace(o, work_s=10**6)), "lasts longer"),
    # the seal
    "a commitment without its signature": (edit_seal(first_commitment(signature="0x" + "0" * 130)), "signature"),
    "another update under the signature": (edit_seal(first_commitment(update_root="9" * 64)), "not signed by"),
    "another trace under the signature": (edit_seal(first_commitment(trace_root="9" * 64)), "not signed by"),
    "another hardware under the signature": (edit_seal(first_commitment(hardware="other")), "not signed by"),
    "a commitment of another node": (edit_seal(first_commitment(node=STRANGER)), "fits no slot"),
    "samples that are no steps": (edit_seal(first_commitment(samples=9)), "fits no slot"),
    "more steps than dealt": (more_steps_than_dealt, "fits no slot"),
    "a commitment twice": (
        edit_seal(lambda s: replace(s, commitments=(s.commitments[0], *s.commitments))),
        "every slot exactly once",
    ),
    "a commitment left out": (edit_seal(lambda s: replace(s, commitments=s.commitments[1:])), "every slot exactly"),
    "a slot that nobody has": (
        edit_seal(lambda s: replace(s, missing=(*s.missing, Reason(77, "never came")))),
        "every slot exactly once",
    ),
    "a second seal": (twice(Seal, 1), "second time"),
    # the places
    "an unsealed slot counted": (
        edit_assign(lambda a: replace(a, accepted=(*a.accepted, 77))),
        "every commitment exactly once",
    ),
    "a commitment without a place": (edit_assign(lambda a: replace(a, weightless=())), "every commitment exactly"),
    "an absent one that was not accepted": (
        edit_assign(lambda a: replace(a, absent=(a.weightless[0],))),
        "absent that was not accepted",
    ),
    "a newcomer with weight": (
        edit_assign(lambda a: replace(a, accepted=tuple(range(5)), weightless=())),
        "weight to a newcomer",
    ),
    "a proven one without weight": (
        edit_assign(
            lambda a: replace(a, accepted=a.accepted[1:], weightless=(*a.weightless, a.accepted[0]), reducers=())
        ),
        "weight to a newcomer",
    ),
    "an excluded node's work counted": (
        edit_assign(lambda a: replace(a, rejected=(), weightless=(*a.weightless, 2)), 2),
        "excluded node",
    ),
    "a reducer without weight": (
        edit_assign(lambda a: replace(a, reducers=(Reducer(0, a.weightless[0], a.accepted[0]), *a.reducers[1:]))),
        "stranger reduce",
    ),
    "a witness without weight": (
        edit_assign(lambda a: replace(a, reducers=(replace(a.reducers[0], witness=a.weightless[0]), *a.reducers[1:]))),
        "does not reduce",
    ),
    "two witnesses of one reducer": (
        edit_assign(
            lambda a: replace(
                a,
                reducers=tuple(
                    Reducer(item.chunk, a.accepted[0], a.accepted[item.chunk % 2 - 1]) for item in a.reducers
                ),
            )
        ),
        "two witnesses",
    ),
    "a reducer that nobody can reach": (
        edit_open(lambda o: replace(o, members=tuple(replace(m, reduces=False) for m in o.members))),
        "does not reduce",
    ),
    "a chunk that nobody reduces": (edit_assign(lambda a: replace(a, reducers=a.reducers[1:])), "every chunk exactly"),
    "a chunk reduced twice": (
        edit_assign(lambda a: replace(a, reducers=(a.reducers[0], *a.reducers))),
        "every chunk exactly once",
    ),
    "a first attempt called third": (edit_assign(lambda a: replace(a, attempt=2)), "out of order"),
    "a second attempt that rejects others": (
        second_assign(
            lambda a: replace(
                a,
                accepted=a.accepted[1:],
                rejected=(Reason(a.accepted[0], "no"),),
                reducers=tuple(Reducer(item.chunk, a.accepted[1], a.accepted[1]) for item in a.reducers),
            )
        ),
        "more than who reduces",
    ),
    "a reducer blamed for another's chunk": (
        second_assign(blames(lambda a: a.reducers[0].slot + 1)),
        "was not to reduce",
    ),
    "a blamed reducer that reduces on": (
        second_assign(lambda a: replace(blames(lambda a: a.reducers[0].slot)(a), reducers=a.reducers)),
        "lets somebody reduce",
    ),
    "a reducer blamed twice": (
        second_assign(lambda a: replace(a, unreadable=blames(lambda a: a.reducers[0].slot)(a).unreadable * 2)),
        "blame each reducer once",
    ),
    "a reducer blamed without its signature": (second_assign(blames(lambda a: a.reducers[0].slot)), "signature"),
    "an attempt skipped": (second_assign(lambda a: replace(a, attempt=3)), "more than who reduces"),
    # the result
    "an unsealed sender": (edit_result(first_chunk(senders=(0, 77))), "not accepted"),
    "a weightless sender": (edit_result(first_chunk(senders=(0, 1, 3))), "not accepted"),
    "no sender": (edit_result(first_chunk(senders=())), "not accepted"),
    "a sender twice": (reducer_counts_a_sender_twice, "one twice"),
    "a sender left out": (edit_result(first_chunk(senders=(3,))), "not signed by"),
    "another average under the signature": (edit_result(first_chunk(result="9" * 64)), "not signed by"),
    "a reduction without its signature": (edit_result(first_reduction(signature="")), "no valid signature"),
    "another reducer": (another_member_reduced, "other chunks than were assigned"),
    "a reducer that no slot has": (edit_result(first_chunk(reducer=77)), "other chunks than were assigned"),
    "a chunk left out": (edit_result(lambda r: replace(r, chunks=r.chunks[1:])), "other chunks than were assigned"),
    "an attempt that was not made": (edit_result(first_chunk(attempt=1)), "not made"),
    "a chunk that no signature covers": (
        edit_result(lambda r: replace(r, reductions=r.reductions[1:])),
        "one signature",
    ),
    "a chunk that two signatures cover": (
        edit_result(lambda r: replace(r, reductions=(r.reductions[0], *r.reductions))),
        "one signature",
    ),
    "a signature of another reducer": (edit_result(first_reduction(reducer=4)), "another reducer's signature"),
    "other steps": (edit_result(lambda r: replace(r, steps=r.steps + 1)), "other steps or samples"),
    "another pool": (edit_result(lambda r: replace(r, returned=r.returned[1:])), "other steps or samples"),
    "another cursor": (edit_result(lambda r: replace(r, cursor=r.cursor + 1)), "other steps or samples"),
    "a second result": (twice(Result, 1), "second result"),
    # the close
    "another state than reported": (edit_close(lambda c: replace(c, state_root="e" * 64)), "not signed by"),
    "another state, reports dropped": (
        edit_close(lambda c: replace(c, state_root="e" * 64, reports=())),
        "another state",
    ),
    "a forged report": (
        edit_close(lambda c: replace(c, reports=(Report(STRANGER, c.reports[0].signature), *c.reports[1:]))),
        "not signed by",
    ),
    "a second close": (twice(Close, 1), "out of order"),
    # the verdict
    "another secret": (edit_verdict(lambda v: replace(v, secret="e" * 64)), "another secret"),
    "an un-audited newcomer": (edit_verdict(judgement(1, evidence="none")), "otherwise than the draw says"),
    "a rejection without an audit": (
        edit_verdict(judgement(0, evidence="none", outcome="rejected")),
        "otherwise than the draw says",
    ),
    "a worker audited less often than its audits allow": (
        edit_seal(lambda s: replace(s, rates_ppm=(s.rates_ppm[0] - 1, *s.rates_ppm[1:]))),
        "less often than its audits allow",
    ),
    "a commitment without its rate": (edit_seal(lambda s: replace(s, rates_ppm=s.rates_ppm[1:])), "less often"),
    "a friend spared by the draw": (drawn_work_passed_by, "otherwise than the draw says"),
    "an audit that the draw does not name": (undrawn_work_audited, "otherwise than the draw says"),
    "another block for the draw": (edit_verdict(lambda v: replace(v, block_hash="0x" + "c" * 64), 4), "the draw says"),
    "a rejection on a tolerance": (rejected_on_a_tolerance, "only suspends"),
    "other segments than those drawn": (judged_by_other_segments, "other segments than the seed draws"),
    "rejected work called void after all": (
        edit_verdict(judgement(2, outcome="void"), 0),
        "rejected before the exchange",
    ),
    "a judgement missing": (edit_verdict(lambda v: replace(v, judged=v.judged[1:])), "every commitment exactly once"),
    "a judgement too many": (
        edit_verdict(lambda v: replace(v, judged=(*v.judged, Judged(77, STRANGER, "accepted", "exact", "")))),
        "every commitment exactly once",
    ),
    "one judgement twice": (
        edit_verdict(lambda v: replace(v, judged=(v.judged[0], *v.judged))),
        "every commitment exactly once",
    ),
    "somebody else's node judged, to be paid": (edit_verdict(judgement(0, node=STRANGER)), "every commitment exactly"),
    "rejected work accepted after all": (
        edit_verdict(judgement(2, outcome="accepted"), 0),
        "rejected before the exchange",
    ),
    "a verdict before its round has closed": (
        lambda _, records: [*records[: at(records, Close, 0)], records[at(records, Verdict, 0)]],
        "has not closed",
    ),
    "a second verdict": (twice(Verdict, 1), "second time"),
    # order
    "no beginning": (without(Begin, 0), "out of order"),
    "a second beginning": (new_beginning, "out of order"),
    "another protocol": (
        lambda _, records: with_body(records, 0, Begin("begin", 1, START_ROOT)),
        "protocol version",
    ),
    "no opening": (without(Open, 1), "out of order"),
    "no seal": (without(Seal, 1), "out of order"),
    "no places": (without(Assign, 1), "out of order"),
    "no result": (without(Result, 1), "out of order"),
    "no close": (without(Close, 1), "out of order"),
    "seal and places swapped": (swapped(Seal, Assign, 1), "out of order"),
    "places and result swapped": (swapped(Assign, Result, 1), "out of order"),
    "result and close swapped": (swapped(Result, Close, 1), "out of order"),
    "an early end": (
        lambda _, records: [*records[: at(records, Open, 2)], records[at(records, Finish)]],
        "ends the job elsewhere",
    ),
    "an end at another state": (edit_finish(state_root="e" * 64), "ends the job elsewhere"),
    "an end after other rounds": (edit_finish(rounds=4), "ends the job elsewhere"),
    "an end on the chain in the middle of a round": (end_early(Close, ended=True), "ends the job elsewhere"),
    "an end before the last round": (end_early(Open, ended=False), "ends the job elsewhere"),
    "a reducer blamed that is another's": (
        edit_verdict(lambda v: replace(v, reductions=(ReductionJudged(0, 9, STRANGER, "rejected", ""),))),
        "blames another",
    ),
    "a claim of nobody's delivery": (
        edit_verdict(lambda v: replace(v, claims=(Claimed(0, 0, 0, 9, (0,), ("f" * 64,), (), ""),))),
        "of no sender",
    ),
    "a claim of what the result holds": (
        edit_verdict(lambda v: replace(v, claims=(Claimed(0, 3, 3, 0, (0,), ("f" * 64,), (), ""),))),
        "nothing that the result leaves out",
    ),
    "a chunk blamed that is none": (
        edit_verdict(lambda v: replace(v, reductions=(ReductionJudged(99, 0, STRANGER, "rejected", ""),))),
        "each of its chunks once",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_tampering_is_refused(grown: SignedWorld, name: str) -> None:
    """The coordinator signs the changed chain anew, so that only what it says can give it away."""
    edit, words = TAMPERINGS[name]
    tampered = rechain(edit(grown, list(grown.records)))
    assert tampered != grown.records, "the tampering changes nothing"
    with pytest.raises(RefusedError, match=words):
        follow(tampered, grown.job, DOMAIN)
