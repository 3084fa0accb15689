"""Packed records: exactly what was packed comes back, small, and hostile bytes end in one refusal."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_actors import ALICE, BODIES, JOB, SIGNATURE, chain_of, signed_chain
from world import RULES, World
from world_cast import Role, Weather

from anynode.rounds.course import (
    Assign,
    ChunkResult,
    Close,
    Committed,
    Member,
    Open,
    Reason,
    Reduction,
    Report,
    Result,
    Seal,
    Unreadable,
)
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.judgements import Judged, Redone, Task, Verdict
from anynode.rounds.packing import pack, unpack
from anynode.rounds.records import Body, Record, SignedRecord
from anynode.rounds.roster import Roster
from anynode.rounds.shares import share
from anynode.rounds.unpacking import EXPANDED_MAX
from anynode_contracts.errors import RefusedError

BYTES_PER_MEMBER_MAX = 250
FIXED_BYTES_MAX = 1_300
"""What the six records of a round cost however few its members are: the coordinator's signatures are 390 of it, and 65
each word on a slot that is missing."""


def roster_of(records: list[SignedRecord]) -> Roster:
    return Roster(item.record for item in records)


def signature(dice: random.Random) -> str:
    return "0x" + dice.randbytes(65).hex()


def signed_by(dice: random.Random, records: list[Record]) -> list[SignedRecord]:
    """With signatures of real length, that cannot be compressed."""
    return [SignedRecord(record, 0, (signature(dice),)) for record in records]


def whole_round(dice: random.Random, members: int, round_: int, **options: Any) -> list[Body]:
    """The bodies of a round with everything real in size: nodes, peers, hashes, signatures."""
    usual = {
        "chunks": 16,
        "batch": 4,
        "missing": 0,
        "weightless": 0,
        "absent": 0,
        "cursor": 0,
        "returned": (),
    }
    chosen = usual | {"tasks": False} | options
    names = options["names"][:members]
    places = tuple(
        Member(
            slot,
            name,
            peer,
            "CPU x86_64 AVX2 8 threads torch 2.13",
            dice.randint(1, 40),
            True,
            dice.random() < 0.9,
            bool(chosen["tasks"]) and slot % 2 == 0,
            name if slot % 3 else "",
        )
        for slot, (name, peer) in enumerate(names)
    )
    samples = [place.quota_steps * chosen["batch"] for place in places]
    pool, cursor, returned = take(chosen["cursor"], chosen["returned"], sum(samples))
    beacon = "0x" + dice.randbytes(32).hex()
    ranges = deal(pool, samples, work_seed(JOB, round_, beacon))
    frozen = dice.choice(("", dice.randbytes(32).hex()))
    opened = Open(
        "open", round_, dice.randbytes(32).hex(), beacon, False, places, ranges, cursor, returned, 20, 60, 30, frozen
    )
    missing = set(dice.sample(range(members), chosen["missing"]))
    committed = tuple(
        Committed(
            place.slot,
            place.node,
            steps := dice.randint(1, place.quota_steps),
            steps * chosen["batch"],
            8,
            dice.randbytes(32).hex(),
            dice.randbytes(32).hex(),
            place.hardware,
            "0.1.0",
            dice.choice((0, dice.randint(1, 10**7))),
            signature(dice),
        )
        for place in places
        if place.slot not in missing
    )
    late = tuple(Reason(slot, "no commitment arrived before the deadline") for slot in sorted(missing))
    slots = [item.slot for item in committed]
    weightless = tuple(sorted(dice.sample(slots, min(chosen["weightless"], len(slots) - 1))))
    accepted = tuple(slot for slot in slots if slot not in weightless)
    absent = tuple(sorted(dice.sample(accepted, min(chosen["absent"], len(accepted)))))
    reducers = share(range(chosen["chunks"]), {}, dict.fromkeys(accepted, 0.0), beacon)
    entries = tuple(
        ChunkResult(item.chunk, 0, item.slot, accepted[dice.random() < 0.1 :] or accepted, dice.randbytes(32).hex())
        for item in reducers
    )
    by_slot: dict[int, list[int]] = {}
    for item in reducers:
        by_slot.setdefault(item.slot, []).append(item.chunk)
    reductions = tuple(
        Reduction(slot, 0, tuple(chunks[start : start + 8]), signature(dice))
        for slot, chunks in by_slot.items()
        for start in range(0, len(chunks), 8)
    )
    reports = tuple(Report(place.node, signature(dice)) for place in places)
    judged = tuple(
        Judged(item.slot, item.node, "accepted", "exact", "replayed: equal")
        if dice.random() < 0.1
        else Judged(item.slot, item.node, "accepted", "none", "not drawn for audit")
        for item in committed
    )
    tasks = tasks_of(dice, places) if chosen["tasks"] else ()
    absences = tuple(signature(dice) for _ in late)
    rates = tuple(dice.randint(20_000, 1_000_000) for _ in committed)
    return [
        opened,
        Seal("seal", round_, committed, late, dice.randbytes(32).hex(), 1_000_000, rates, places[0].node, absences),
        Assign("assign", round_, 0, accepted, (), weightless, absent, reducers, ()),
        Result("result", round_, entries, reductions, 20, cursor, returned),
        Close("close", round_, dice.randbytes(32).hex(), reports, ()),
        Verdict("verdict", round_, dice.randbytes(32).hex(), beacon, judged, (), tasks, ()),
    ]


def tasks_of(dice: random.Random, places: tuple[Member, ...]) -> tuple[Task, ...]:
    """One that was answered and one that was not."""
    redone = Redone(*(dice.randbytes(32).hex() for _ in range(3)))
    return (
        Task(0, places[1].node, 4, "accepted", "answered", redone, signature(dice)),
        Task(1, places[0].node, 2, "void", "no answer", None, ""),
    )


def names(dice: random.Random, count: int) -> list[tuple[str, str]]:
    """Nodes in order, with peer ids of real length."""
    from eth_utils.address import to_checksum_address

    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    nodes = sorted(to_checksum_address("0x" + dice.randbytes(20).hex()) for _ in range(count))
    return [(node, "12D3KooW" + "".join(dice.choices(letters, k=44))) for node in nodes]


class InkWorld(World):
    """A swarm whose messages carry signatures of real length."""

    def sign(self, name: str, message: Any) -> Any:
        return replace(message, signature=signature(self.random)) if hasattr(message, "signature") else message

    def sign_nothing(self, round_: int, slots: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(signature(self.random) for _ in super().sign_nothing(round_, slots))


# --- there and back -------------------------------------------------------------------------------------------------


def test_every_kind_of_record_comes_back_with_its_hash_and_signature() -> None:
    records = signed_chain()
    again = unpack(pack(records, roster_of(records)), Roster())
    assert list(again) == records
    assert [item.record.hash for item in again] == [item.record.hash for item in records]
    assert [item.record.body.kind for item in again] == [body.kind for body in BODIES]
    packed = [kind for *_, kind, _ in msgpack.unpackb(pack(records, roster_of(records)))[4]]
    assert "verdict" in packed, "a verdict that names averaged chunks fits the scheme"


def test_audit_tasks_and_owners_come_back() -> None:
    dice = random.Random(3)
    bodies = whole_round(dice, 6, 0, names=names(dice, 6), tasks=True)
    records = signed_by(dice, chain_of(*bodies))
    again = unpack(pack(records, roster_of(records)), Roster())
    assert list(again) == records
    verdict = again[-1].record.body
    assert isinstance(verdict, Verdict) and len(verdict.tasks) == 2


def test_what_reducers_have_signed_that_is_no_average_comes_back() -> None:
    dice = random.Random(4)
    bodies = whole_round(dice, 4, 0, names=names(dice, 4))
    said = Unreadable((ChunkResult(1, 0, 2, (0, 1), "c" * 64), ChunkResult(3, 0, 2, (0,), "d" * 64)), signature(dice))
    bodies = [replace(body, unreadable=(said,)) if isinstance(body, Assign) else body for body in bodies]
    records = signed_by(dice, chain_of(*bodies))
    packed = pack(records, roster_of(records))
    assert list(unpack(packed, Roster())) == records
    assert "assign" in [kind for *_, kind, _ in msgpack.unpackb(packed)[4]]


@pytest.mark.parametrize("seed", range(12))
def test_the_records_of_simulated_jobs_come_back_in_any_pieces(seed: int) -> None:
    """Whole, or record by record to a member that follows, or from the middle to one that fell behind."""
    dice = random.Random(seed)
    roles = [Role(), Role(cheats=seed % 3 == 0), Role(reduces=False), Role(comes_at_s=15.0), Role(slow=10.0)]
    weather = Weather(loss=0.1, crashes=2, partitions=1, failure=0.1, until_s=40.0)
    world = InkWorld(seed, roles, weather, replace(RULES, rounds=4))
    world.run(3_000.0)
    records = signed_by(dice, world.records)
    everything = roster_of(records)
    assert list(unpack(pack(records[:64], everything), Roster())) == records[:64]
    following = Roster()
    for item in records:
        assert list(unpack(pack([item], everything), following)) == [item]
        following.note(item.record)
    middle = len(records) // 2
    assert list(unpack(pack(records[middle:], everything), roster_of(records[:middle]))) == records[middle:]
    assert list(unpack(pack(records[middle:], everything), everything)) == records[middle:], "to one who has them"
    assert unpack(pack(records[middle:], everything), roster_of(records[: middle - 1])) == (), "they come too early"
    rounds = len([record for record in world.records if record.body.kind == "open"])
    assert sum(len(item) for item in plain_bodies(pack(records[:64], everything))) < 200 * rounds, "few travel as JSON"


def plain_bodies(data: bytes) -> list[bytes]:
    """The bodies that travel as they are, because they do not fit the scheme."""
    return [body for *_, kind, body in msgpack.unpackb(data)[4] if not kind]


@settings(deadline=None, derandomize=True, database=None)
@given(st.data())
def test_records_that_fit_no_scheme_come_back_too(data: st.DataObject) -> None:
    """Any changed field: an empty signature, slots out of order, ranges that no seed deals."""
    body: Any = data.draw(st.sampled_from(BODIES[1:7]))
    changes: dict[str, Any] = {
        "open": {"ranges": (((0, 8),), ((9, 17),)), "beacon": "0xff"},
        "seal": {"commitments": body.commitments * 2 if body.kind == "seal" else ()},
        "assign": {"accepted": (3, 1, 2)},
        "result": {"reductions": ()},
        "close": {"reports": (Report(ALICE, ""),), "forks": (ALICE,)},
        "verdict": {"judged": ()},
    }
    field = data.draw(st.sampled_from(sorted(changes[body.kind])))
    changed = replace(body, **{field: changes[body.kind][field]})
    records = [SignedRecord(record, 0, (SIGNATURE,)) for record in chain_of(BODIES[0], BODIES[1], changed)]
    assert list(unpack(pack(records, roster_of(records)), Roster())) == records


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [10, 100, pytest.param(1_000, marks=pytest.mark.deep)])
def test_a_round_takes_at_most_250_bytes_per_member(members: int) -> None:
    """Newcomers are named once; afterwards a member costs its hashes, its signatures and a few numbers."""
    dice = random.Random(members)
    known = names(dice, members)
    chunks = max(1, members // 4)
    rounds = [
        whole_round(dice, members, number, names=known, chunks=chunks, missing=members // 50, absent=members // 50)
        for number in range(4)
    ]
    records = signed_by(dice, chain_of(BODIES[0], *(body for bodies in rounds for body in bodies)))
    roster = roster_of(records)
    sizes = [len(pack(records[1 + 6 * number : 7 + 6 * number], roster)) / members for number in range(4)]
    assert list(unpack(pack(records, roster), Roster())) == records
    assert max(sizes[1:]) <= (BYTES_PER_MEMBER_MAX if members >= 100 else 200 + FIXED_BYTES_MAX / members), sizes
    assert not plain_bodies(pack(records, roster))[1:], "only the beginning travels as JSON"


# --- hostile bytes --------------------------------------------------------------------------------------------------


def test_a_few_bytes_that_would_grow_without_bound_are_refused() -> None:
    records = signed_chain()
    roster = roster_of(records)
    run = msgpack.unpackb(pack(records, roster))
    job, height, base, new, packed = run
    for place, where, bomb in (
        (2, 1, [0, 10**9]),
        (3, 2, [0, EXPANDED_MAX + 1]),
        (3, 5, [0, 0, 2**60]),
        (4, 1, [0, 0, 0, 10**8]),
        (4, 2, [[0, 10**9]]),
        (6, 3, [0, 2**63]),
        (1, 9, [0, 2**62]),
        (1, 8, -1),
        (1, 4, [-1, -2]),
        (1, 4, [0] * 20_000),
    ):
        body = list(packed[place][-1])
        body[where] = bomb
        changed = [*packed[:place], [*packed[place][:-1], body], *packed[place + 1 :]]
        with pytest.raises(RefusedError):
            unpack(msgpack.packb([job, height, base, new, changed]), Roster())
            pytest.fail(f"{bomb} was taken")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\xc1",
        b"\x90" * 10,
        msgpack.packb({"a": 1}),
        msgpack.packb([1, 2]),
        b"\x91" * 100_000,
        b"\xdd" + b"\xff" * 4,
    ],
)
def test_bytes_that_are_no_run_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError, match="packed records"):
        unpack(data, Roster())


def test_more_records_than_a_run_may_hold_are_refused() -> None:
    records = signed_chain()
    job, height, base, new, packed = msgpack.unpackb(pack(records, roster_of(records)))
    with pytest.raises(RefusedError):
        unpack(msgpack.packb([job, height, base, new, packed * 9]), Roster())


@settings(deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_records(data: bytes) -> None:
    try:
        found = unpack(data, Roster())
    except RefusedError:
        return
    assert found == ()


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=2))
def test_bytes_changed_on_the_way_are_refused_or_other_records(place: int, byte: bytes) -> None:
    """Or a record that hashes to something else: its signature holds no longer."""
    records = signed_chain()
    sent = pack(records, roster_of(records))
    place %= len(sent)
    changed = sent[:place] + byte + sent[place + len(byte) :]
    try:
        found = unpack(changed, Roster())
    except RefusedError:
        return
    for item, before in zip(found, records, strict=False):
        same = (item.record.hash, item.signatures) == (before.record.hash, before.signatures)
        assert same == (item == before), "what is signed has not changed, or shows that it has"
