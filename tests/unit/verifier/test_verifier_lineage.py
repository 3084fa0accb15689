"""The auditor's reading of a record chain: what a coordinator may sign, and every single thing that it may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from signed_world import DOMAIN, SignedWorld, key, make_job, sign_record
from world import START_ROOT, Weather

from anynode.rounds.chain import verify
from anynode.rounds.messages import Average, ChunkDone
from anynode.rounds.records import (
    Assign,
    Begin,
    Body,
    Close,
    Finish,
    Judged,
    Open,
    Reason,
    Record,
    Reducer,
    Report,
    Result,
    Seal,
    Verdict,
)
from anynode.rounds.statements import commitment_of, statement
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, sign
from anynode_verifier.lineage import follow

Chain = list[Record]
Edit = Callable[[SignedWorld, Chain], Chain]
STRANGER = key("stranger").address


def at(records: Chain, kind: type, round_: int = 0) -> int:
    """Where the first record of this kind and round lies."""
    return next(i for i, r in enumerate(records) if isinstance(r.body, kind) and getattr(r.body, "round", 0) == round_)


def with_body(records: Chain, place: int, body: Body) -> Chain:
    return [*records[:place], replace(records[place], body=body), *records[place + 1 :]]


def rechain(records: Chain) -> Chain:
    """The same bodies as a hash chain that holds, as a coordinator would sign it."""
    linked: Chain = []
    for record in records:
        previous = linked[-1].hash if linked else "0" * 64
        linked.append(Record(record.job, len(linked), previous, record.body))
    return linked


# --- what is genuine ------------------------------------------------------------------------------------------------


def test_a_genuine_chain_is_followed(grown: SignedWorld) -> None:
    lineage = follow(grown.records, grown.job, DOMAIN)
    assert lineage.start_root == START_ROOT
    assert [round_.open.round for round_ in lineage.rounds] == list(range(5))
    assert sorted(lineage.verdicts) == list(range(5))
    assert {round_.close.state_root for round_ in lineage.rounds} == {next(iter(r)) for r in grown.applied.values()}


def test_the_chain_that_is_tampered_with_below_has_everything(grown: SignedWorld) -> None:
    """A newcomer rejected before the exchange, weightless newcomers, one of them found out, and its next work."""
    assigns = {r.body.round: r.body for r in grown.records if isinstance(r.body, Assign)}
    verdicts = {r.body.round: r.body for r in grown.records if isinstance(r.body, Verdict)}
    assert [item.slot for item in assigns[0].rejected] == [2]
    assert assigns[1].weightless == (1, 2, 4)
    assert [item.slot for item in verdicts[1].judged if not item.accepted] == [2]
    assert [item.slot for item in assigns[2].rejected] == [2]
    assert any(not item.audited for item in verdicts[4].judged)


def test_work_of_a_node_excluded_meanwhile_is_told_from_work_that_was_judged(grown: SignedWorld) -> None:
    """Nobody replayed it, so an auditor who finds it honest has found no fault."""
    rounds = follow(grown.records, grown.job, DOMAIN).rounds
    assert rounds[0].ended == frozenset()
    assert rounds[2].ended == {2}


@pytest.mark.parametrize("seed", range(20))
def test_chains_of_stormy_schedules_are_followed(seed: int) -> None:
    """Crashes, loss and void rounds never make a coordinator sign what an auditor refuses."""
    weather = Weather(
        loss=(0.0, 0.1, 0.3)[seed % 3],
        duplicate=0.1,
        delay_s_max=(0.05, 3.0)[seed % 2],
        failure=0.1,
        crashes=seed % 6,
        until_s=40.0,
    )
    late = ((), (False,), (True, False))[seed % 3]
    world = SignedWorld(make_job(), seed, 1 + seed % 4, weather=weather, cheats=int(seed % 4 == 3), late=late)
    world.run(3_000.0)
    assert world.finished(), f"the job of seed {seed} did not finish"
    lineage = follow(world.records, world.job, DOMAIN)
    assert len(lineage.rounds) == 4, f"seed {seed}"
    verify(world.signed, world.job.job_id, DOMAIN, [key("coordinator").address])


def test_every_prefix_of_a_chain_is_followed(grown: SignedWorld) -> None:
    for length in range(len(grown.records)):
        closed = sum(isinstance(record.body, Close) for record in grown.records[:length])
        assert len(follow(grown.records[:length], grown.job, DOMAIN).rounds) == closed


# --- what is not ----------------------------------------------------------------------------------------------------


def edit_open(change: Callable[[Open], Open], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Open, round_)
        body = records[place].body
        assert isinstance(body, Open)
        return with_body(records, place, change(body))

    return edit


def edit_seal(change: Callable[[Seal], Seal], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Seal, round_)
        body = records[place].body
        assert isinstance(body, Seal)
        return with_body(records, place, change(body))

    return edit


def edit_assign(change: Callable[[Assign], Assign], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Assign, round_)
        body = records[place].body
        assert isinstance(body, Assign)
        return with_body(records, place, change(body))

    return edit


def edit_result(change: Callable[[Result], Result], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Result, round_)
        body = records[place].body
        assert isinstance(body, Result)
        return with_body(records, place, change(body))

    return edit


def edit_close(change: Callable[[Close], Close], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Close, round_)
        body = records[place].body
        assert isinstance(body, Close)
        return with_body(records, place, change(body))

    return edit


def edit_verdict(change: Callable[[Verdict], Verdict], round_: int = 1) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Verdict, round_)
        body = records[place].body
        assert isinstance(body, Verdict)
        return with_body(records, place, change(body))

    return edit


def first_member(**changes: object) -> Callable[[Open], Open]:
    return lambda o: replace(o, members=(replace(o.members[0], **changes), *o.members[1:]))  # type: ignore[arg-type]


def newcomer(**changes: object) -> Callable[[Open], Open]:
    """Change the first member of the round that is not proven."""
    return lambda o: replace(
        o,
        members=tuple(
            replace(m, **changes)  # type: ignore[arg-type]
            if m.slot == next(item.slot for item in o.members if not item.proven)
            else m
            for m in o.members
        ),
    )


def first_commitment(**changes: object) -> Callable[[Seal], Seal]:
    return lambda s: replace(s, commitments=(replace(s.commitments[0], **changes), *s.commitments[1:]))  # type: ignore[arg-type]


def first_chunk(**changes: object) -> Callable[[Result], Result]:
    return lambda r: replace(r, chunks=(replace(r.chunks[0], **changes), *r.chunks[1:]))  # type: ignore[arg-type]


def first_reduction(**changes: object) -> Callable[[Result], Result]:
    return lambda r: replace(r, reductions=(replace(r.reductions[0], **changes), *r.reductions[1:]))  # type: ignore[arg-type]


def judgement(slot: int, **changes: object) -> Callable[[Verdict], Verdict]:
    return lambda v: replace(
        v,
        judged=tuple(replace(item, **changes) if item.slot == slot else item for item in v.judged),  # type: ignore[arg-type]
    )


def without(kind: type, round_: int) -> Edit:
    return lambda _, records: [r for i, r in enumerate(records) if i != at(records, kind, round_)]


def twice(kind: type, round_: int) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, kind, round_)
        return [*records[: place + 1], *records[place:]]

    return edit


def swapped(kind: type, other: type, round_: int) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        changed = list(records)
        one, two = at(records, kind, round_), at(records, other, round_)
        changed[one], changed[two] = changed[two], changed[one]
        return changed

    return edit


def more_steps_than_dealt(world: SignedWorld, records: Chain) -> Chain:
    """A worker and the coordinator agree on more samples than were dealt, and both sign it."""
    place = at(records, Seal, 1)
    seal = records[place].body
    assert isinstance(seal, Seal)
    item = replace(seal.commitments[0], steps=500, samples=1_000)
    said = statement(world.job.job_id, commitment_of(item, 1))
    item = replace(item, signature=sign(world.accounts[item.node], DOMAIN, said))
    return with_body(records, place, replace(seal, commitments=(item, *seal.commitments[1:])))


def reducer_counts_a_sender_twice(world: SignedWorld, records: Chain) -> Chain:
    """A reducer is paid by the bytes it took in: it must not count one update twice, signed or not."""
    place = at(records, Result, 1)
    result = records[place].body
    assert isinstance(result, Result)
    opened = records[at(records, Open, 1)].body
    assert isinstance(opened, Open)
    entry = result.chunks[0]
    entry = replace(entry, senders=(entry.senders[0], *entry.senders))
    return with_body(records, place, signed_anew(world, opened, replace(result, chunks=(entry, *result.chunks[1:]))))


def signed_anew(world: SignedWorld, opened: Open, result: Result) -> Result:
    """The result with the signature of whoever its chunks name as their reducer."""
    reductions = []
    for item in result.reductions:
        entries = [entry for entry in result.chunks if entry.chunk in item.chunks]
        reducer = entries[0].reducer
        node = opened.members[reducer].node
        averages = tuple(Average(entry.chunk, entry.senders, entry.result) for entry in entries)
        done = ChunkDone("chunk_done", node, result.round, item.attempt, reducer, averages)
        signature = sign(world.accounts[node], DOMAIN, statement(world.job.job_id, done))
        reductions.append(replace(item, reducer=reducer, signature=signature))
    return replace(result, reductions=tuple(reductions))


def another_member_reduced(world: SignedWorld, records: Chain) -> Chain:
    """Somebody else's signature under a chunk, where another was assigned."""
    place = at(records, Result, 1)
    result, opened = records[place].body, records[at(records, Open, 1)].body
    assert isinstance(result, Result)
    assert isinstance(opened, Open)
    first = result.chunks[0].reducer
    other = next(slot for slot in result.chunks[0].senders if slot != first)
    chunks = tuple(replace(entry, reducer=other) if entry.reducer == first else entry for entry in result.chunks)
    return with_body(records, place, signed_anew(world, opened, replace(result, chunks=chunks)))


def new_beginning(_: SignedWorld, records: Chain) -> Chain:
    """Back to the start state in the middle of the job."""
    place = at(records, Open, 2)
    return [*records[:place], replace(records[place], body=Begin("begin", 2, START_ROOT)), *records[place:]]


def second_assign(change: Callable[[Assign], Assign]) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Assign, 1)
        body = records[place].body
        assert isinstance(body, Assign)
        again = replace(records[place], body=change(replace(body, attempt=1)))
        return [*records[: place + 1], again, *records[place + 1 :]]

    return edit


def edit_finish(**changes: object) -> Edit:
    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, Finish)
        body = records[place].body
        assert isinstance(body, Finish)
        return with_body(records, place, replace(body, **changes))  # type: ignore[arg-type]

    return edit


TAMPERINGS: dict[str, tuple[Edit, str]] = {
    # the deal
    "other ranges": (edit_open(lambda o: replace(o, ranges=(o.ranges[1], o.ranges[0], *o.ranges[2:]))), "deals other"),
    "a grown cursor": (edit_open(lambda o: replace(o, cursor=o.cursor + 2)), "deals other"),
    "a sample back in the pool": (edit_open(lambda o: replace(o, returned=(*o.returned, (0, 1)))), "deals other"),
    "another beacon than dealt by": (edit_open(lambda o: replace(o, beacon="0xff")), "deals other"),
    "a larger quota": (edit_open(first_member(quota_steps=6)), "deals other"),
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
    "an un-audited newcomer": (edit_verdict(judgement(1, audited=False)), "without an audit"),
    "a rejection without an audit": (edit_verdict(judgement(0, audited=False, accepted=False)), "without an audit"),
    "a judgement missing": (edit_verdict(lambda v: replace(v, judged=v.judged[1:])), "every commitment exactly once"),
    "a judgement too many": (
        edit_verdict(lambda v: replace(v, judged=(*v.judged, Judged(77, STRANGER, True, True, "")))),
        "every commitment exactly once",
    ),
    "one judgement twice": (
        edit_verdict(lambda v: replace(v, judged=(v.judged[0], *v.judged))),
        "every commitment exactly once",
    ),
    "somebody else's node judged, to be paid": (edit_verdict(judgement(0, node=STRANGER)), "every commitment exactly"),
    "rejected work accepted after all": (edit_verdict(judgement(2, accepted=True), 0), "rejected before the exchange"),
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
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_tampering_is_refused(grown: SignedWorld, name: str) -> None:
    """The coordinator signs the changed chain anew, so that only what it says can give it away."""
    edit, words = TAMPERINGS[name]
    tampered = rechain(edit(grown, list(grown.records)))
    assert tampered != grown.records, "the tampering changes nothing"
    with pytest.raises(RefusedError, match=words):
        follow(tampered, grown.job, DOMAIN)


def test_signatures_of_another_network_or_job_are_refused(grown: SignedWorld) -> None:
    with pytest.raises(RefusedError, match="not signed by"):
        follow(grown.records, grown.job, SigningDomain(1, DOMAIN.registry))
    with pytest.raises(RefusedError, match="not signed by"):
        follow(grown.records, grown.job, SigningDomain(DOMAIN.chain_id, f"0x{903:040d}"))
    with pytest.raises(RefusedError, match="deals other samples"):
        follow(grown.records, make_job("another", rounds=5), DOMAIN)


def test_more_rounds_than_the_job_has_are_refused(grown: SignedWorld) -> None:
    with pytest.raises(RefusedError):
        follow(grown.records, make_job(rounds=4), DOMAIN)


def test_an_excluded_node_gets_no_further_place(grown: SignedWorld) -> None:
    """The cheat of round 0 is put back into the next round in the place of a newcomer."""
    opened = grown.records[at(grown.records, Open, 0)].body
    assert isinstance(opened, Open)
    cheat = opened.members[2].node
    place = at(grown.records, Open, 1)
    body = grown.records[place].body
    assert isinstance(body, Open)
    changed = with_body(list(grown.records), place, newcomer(node=cheat)(body))
    with pytest.raises(RefusedError, match="excluded node"):
        follow(changed, grown.job, DOMAIN)


def test_a_tampered_chain_does_not_even_verify(grown: SignedWorld) -> None:
    """Without the coordinator's help the signatures and hashes of the chain give it away first."""
    addresses = [key("coordinator").address]
    signed = grown.signed
    place = at(grown.records, Verdict, 1)
    body = grown.records[place].body
    assert isinstance(body, Verdict)
    forged = replace(grown.records[place], body=judgement(2, accepted=True)(body))
    with pytest.raises(RefusedError, match="not signed by a verifier"):
        verify(
            [*signed[:place], replace(signed[place], record=forged)],
            grown.job.job_id,
            DOMAIN,
            addresses,
        )
    with pytest.raises(RefusedError, match="breaks the hash chain"):
        verify(
            [*signed[:place], sign_record(forged), *signed[place + 1 :]],
            grown.job.job_id,
            DOMAIN,
            addresses,
        )
