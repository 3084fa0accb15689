"""Changes to a record chain that a lying coordinator might sign: each takes a chain and gives another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from signed_world import DOMAIN, SignedWorld, key
from world_cast import START_ROOT

from anynode.rounds.course import Assign, Begin, ChunkResult, Close, Finish, Open, Result, Seal, Unreadable
from anynode.rounds.judgements import Evidence, Outcome, Verdict
from anynode.rounds.messages import PROTOCOL, Average, ChunkDone
from anynode.rounds.records import Body, Record
from anynode.rounds.statements import commitment_of, statement
from anynode_contracts.signing import sign

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


def drawn_work_passed_by(_: SignedWorld, records: Chain) -> Chain:
    return judged_otherwise(records, "exact", "none")


def undrawn_work_audited(_: SignedWorld, records: Chain) -> Chain:
    return judged_otherwise(records, "none", "exact")


def rejected_on_a_tolerance(_: SignedWorld, records: Chain) -> Chain:
    return judged_otherwise(records, "exact", "tolerant", "rejected")


def judged_by_other_segments(_: SignedWorld, records: Chain) -> Chain:
    return judged_otherwise(records, "exact", "tolerant")


def judged_otherwise(records: Chain, was: Evidence, becomes: Evidence, outcome: Outcome = "accepted") -> Chain:
    """A proven worker's accepted work with other evidence than it has."""
    opened = {record.body.round: record.body for record in records if isinstance(record.body, Open)}
    for place, record in enumerate(records):
        if isinstance(record.body, Verdict):
            members = opened[record.body.round].members
            for item in record.body.judged:
                if members[item.slot].proven and item.accepted and item.evidence == was:
                    return with_body(
                        records, place, judgement(item.slot, evidence=becomes, outcome=outcome)(record.body)
                    )
    raise AssertionError("no such work")


def new_beginning(_: SignedWorld, records: Chain) -> Chain:
    """Back to the start state in the middle of the job."""
    place = at(records, Open, 2)
    return [*records[:place], replace(records[place], body=Begin("begin", PROTOCOL, START_ROOT)), *records[place:]]


def blames(slot: Callable[[Assign], int]) -> Callable[[Assign], Assign]:
    """Say of a slot that it has signed what is no average of the first chunk, and let nobody reduce."""

    def change(body: Assign) -> Assign:
        entry = ChunkResult(body.reducers[0].chunk, 0, slot(body), body.accepted, "e" * 64)
        return replace(body, reducers=(), unreadable=(Unreadable((entry,), "0x" + "1" * 130),))

    return change


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


def end_early(before: type, *, ended: bool) -> Edit:
    """The job finishes where a record of the third round stood."""

    def edit(_: SignedWorld, records: Chain) -> Chain:
        place = at(records, before, 2)
        root = next(item.body.state_root for item in records if isinstance(item.body, Open) and item.body.round == 2)
        finish = Finish("finish", 2, root, ended=ended)
        return [*records[:place], replace(records[place], body=finish)]

    return edit
