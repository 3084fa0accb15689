"""A reducer that signs the hash of bytes that are no average."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import world
import world_lies
from attack import Attack, Expect, Finding
from purse import VERIFIER_INDEX, BetrayedWorld, Purse
from signed_world import DOMAIN, SignedWorld, make_job
from world_cast import Role

from anynode.blobs.store import BlobStore
from anynode.exact.arithmetic import nesterov_
from anynode.exact.layout import chunk_specs
from anynode.exact.quantise import Codec
from anynode.rounds import effects, events, messages
from anynode.rounds.course import Assign, ChunkResult, Open, Result, Unreadable
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode.rounds.reductions import unreadable_nodes
from anynode.training.rules import exchange_rules
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_verifier.credits import judged_rounds, round_credits
from anynode_verifier.follower import Follower
from anynode_verifier.lineage import follow
from anynode_verifier.readable import unreadable

ATTACK = Attack(
    "a reducer signs what is no average",
    "A reducer signs the hash of bytes that no peer can apply, so that the job would stand still once it is recorded.",
    "caught",
)
ROUNDS = 8
JOB = make_job(rounds=ROUNDS)
GARBAGE = b"no average at all"


def honest_payload(chunk: int, *, refresh: bool) -> bytes:
    spec = chunk_specs(JOB.model.parameters, refresh)[chunk]
    return exchange_rules(JOB.training).codec(spec.section).encode(torch.full((spec.count,), 0.5))


class Garbage(BetrayedWorld):
    """The last of four members signs garbage for averages. All averages are bytes in ``store``. ``reads``: the verifier
    tries to read them.
    """

    def __init__(self, store: BlobStore, seed: int, *, reads: bool = True) -> None:
        super().__init__(betrays=0, rounds=ROUNDS, seed=seed)
        assert self.job == JOB
        self.store, self.reads = store, reads
        self.peers[self.traitor].role = Role(vice="garbage")

    def cheats_in(self, node: str, round_: int) -> bool:
        opens = {record.body.round: record.body for record in self.records if isinstance(record.body, Open)}
        assigns = [record.body for record in self.records if isinstance(record.body, Assign)]
        return any(node in unreadable_nodes(opens[item.round], item) for item in assigns if item.round == round_)

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        """Its own work is honest."""
        return SignedWorld._replay(self, effect)

    def _fetch_result(self, peer: Any, effect: effects.FetchResult, delay_s: float) -> None:
        found = unreadable(JOB, self.store, effect.done.averages, refresh=effect.open.refresh)
        self._later(peer, delay_s, events.ResultFetched(effect.done, readable=not (found and self.reads)))


class Nobody:
    """A line on which nobody answers: what is wanted lies in the store."""

    async def call(self, *_: Any, **__: Any) -> bytes:
        raise UnreachableError("nobody is there")

    @contextmanager
    def blaming(self, _: str) -> Iterator[None]:
        yield


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """Where the averages of the simulated swarm are real bytes."""
    store = BlobStore(tmp_path / "blobs")

    def average(chunk: int, _: Sequence[str]) -> str:
        return store.put(honest_payload(chunk, refresh=chunk >= len(chunk_specs(JOB.model.parameters, False))))

    def garbage(message: messages.ChunkDone, word: str) -> messages.ChunkDone:
        averages = (replace(item, result=store.put(GARBAGE)) for item in message.averages)
        return replace(message, averages=tuple(averages))

    monkeypatch.setattr(world, "average", average)
    monkeypatch.setattr(world_lies, "_with_results", garbage)
    monkeypatch.setattr(world_lies, "_spares", lambda _: False)
    return store


def test_it_reduces_no_more_is_out_and_loses_what_it_held_back(store: BlobStore, purse: Purse, expect: Expect) -> None:
    swarm = Garbage(store, 5)
    swarm.run(1_500.0)
    assert swarm.finished()
    follow(swarm.records, JOB, DOMAIN)
    bodies = [record.body for record in swarm.records]
    assert all(body.chunks for body in bodies if isinstance(body, Result)), "no round is void for it"
    assert all(store.get(item.result) != GARBAGE for body in bodies if isinstance(body, Result) for item in body.chunks)
    blamed = {item.reducer for body in bodies if isinstance(body, Assign) for item in body.unreadable}
    at = next(place for place, body in enumerate(bodies) if isinstance(body, Assign) and body.unreadable)
    later = [body for body in bodies[at:] if isinstance(body, Open)]
    assert blamed and later and all(swarm.traitor not in {place.node for place in body.members} for body in later)
    judged = [item for body in bodies if isinstance(body, Verdict) for item in body.judged]
    assert all(item.accepted for item in judged)
    indices = {name: index for index, name in enumerate(swarm.accounts, 1)}
    for round_ in judged_rounds(swarm.records):
        if swarm.cheats_in(swarm.traitor, round_.open.round):
            earned = round_credits(swarm.job, round_, indices, VERIFIER_INDEX)
            reducing = {item.node_index for item in earned if item.kind == "reducing" and item.amount_wei}
            assert reducing and indices[swarm.traitor] not in reducing
    paid_wei, slashed_wei = purse.of(swarm)
    assert slashed_wei > 0
    expect(Finding("caught", "its bytes are read before anybody signs that they are averages", paid_wei, slashed_wei))


def follower(store: BlobStore, records: Sequence[Record]) -> Follower:
    """A verifier that has followed so far; everybody's bytes are in its store."""
    nothing: Any = None
    found = Follower(
        JOB,
        DOMAIN,
        start_root="",
        home=nothing,
        store=store,
        peer=cast(Any, Nobody()),
        trainers=nothing,
        replayer=nothing,
        draws=lambda _, __: False,
        chunk_auditor=nothing,
        averager=nothing,
        blocks=nothing,
        ask_sealer=nothing,
        claims_of=lambda _: {},
        sources=lambda: [],
        keeper=str,
        has_ended=lambda: False,
    )
    for record in records:
        found.take(record)
    return found


def signs(store: BlobStore, records: Sequence[Record]) -> bool:
    """Whether a verifier that follows signs the last of these records."""
    *before, last = records
    return asyncio.run(follower(store, before).follows(last, holder="", prepared=True))


def test_verifiers_that_follow_sign_no_result_that_they_cannot_read(store: BlobStore) -> None:
    """Whoever proposes it; and they blame nobody whose averages they can read."""
    blind = Garbage(store, 5, reads=False)
    blind.run(60.0)
    places = [n for n, record in enumerate(blind.records) if isinstance(record.body, Result)]
    sound = [all(store.get(item.result) != GARBAGE for item in blind.records[n].body.chunks) for n in places]  # type: ignore[union-attr]
    assert not all(sound)
    first = sound.index(False)
    assert not signs(store, blind.records[: places[first] + 1])
    reading = Garbage(store, 5)
    reading.run(60.0)
    at = next(n for n, item in enumerate(reading.records) if isinstance(item.body, Assign) and item.body.unreadable)
    assert signs(store, reading.records[: at + 1])
    result = next(n for n, item in enumerate(reading.records) if n > at and isinstance(item.body, Result))
    assert signs(store, reading.records[: result + 1])
    assert not signs(store, [*reading.records[:at], replace(reading.records[at], body=framed(reading, at))])


def framed(swarm: Garbage, at: int) -> Assign:
    """The assignment with another proof: a readable average that the same reducer has signed."""
    body, opened = (
        swarm.records[at].body,
        next(r.body for r in reversed(swarm.records[:at]) if isinstance(r.body, Open)),
    )
    assert isinstance(body, Assign)
    (item,) = body.unreadable
    entries = tuple(
        replace(entry, result=swarm.store.put(honest_payload(entry.chunk, refresh=opened.refresh)))
        for entry in item.entries
    )
    averages = tuple(messages.Average(entry.chunk, entry.senders, entry.result) for entry in entries)
    node = opened.members[item.reducer].node
    done = messages.ChunkDone("chunk_done", node, opened.round, entries[0].attempt, item.reducer, averages)
    return replace(body, unreadable=(Unreadable(entries, swarm.sign(node, done).signature),))


def test_what_is_no_canonical_payload_of_the_chunk_is_not_read(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    codec, count = exchange_rules(JOB.training).codec("delta"), chunk_specs(JOB.model.parameters, False)[0].count
    good = honest_payload(0, refresh=False)
    scales = codec.code_bytes(count)

    def says(payload: bytes) -> bool:
        entry = ChunkResult(0, 0, 0, (0,), store.put(payload))
        return not unreadable(JOB, store, [entry], refresh=False)

    assert says(good)
    dice = np.random.default_rng(7)
    for name, bad in {
        "nothing of the right length": dice.bytes(len(good)),
        "one byte short": good[:-1],
        "one byte more": good + b"\0",
        "an infinite scale": good[:scales] + b"\x80\x7f" + good[scales + 2 :],
        "a scale that is not a number": good[:scales] + b"\xc0\x7f" + good[scales + 2 :],
        "a negative scale": good[:scales] + b"\x80\xbf" + good[scales + 2 :],
        "a scale beyond all updates": good[:scales] + b"\x00\x70" + good[scales + 2 :],
        "a code that is never written": b"\0" + good[1:],
    }.items():
        assert not says(bad), name
    with pytest.raises(RefusedError):
        unreadable(JOB, store, [ChunkResult(0, 0, 0, (0,), "f" * 64)], refresh=False)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_the_largest_values_that_can_be_read_leave_no_infinity(bits: int) -> None:
    """What is read can be applied: the outer step of the largest average is finite, round after round."""
    for unsigned in (False, True):
        codec = Codec(bits, 128, unsigned=unsigned)
        values = codec.parse(largest(codec, 256), 256).values()
        assert bool(torch.isfinite(values).all()) and bool(torch.isfinite(values * values).all())
        params, momentum = torch.zeros(256), torch.zeros(256)
        for _ in range(1_000):
            nesterov_(params, momentum, values, learning_rate=0.7, decay=0.9)
        assert bool(torch.isfinite(params).all() & torch.isfinite(momentum).all())


def largest(codec: Codec, count: int) -> bytes:
    """The payload of the largest values that the codec reads."""
    if codec.bits == 32:
        return np.full(count, 2.0**40, "<f4").tobytes()
    top = (1 << codec.bits) - 1
    codes = {4: np.uint8, 8: np.uint8, 16: np.dtype("<u2")}[codec.bits]
    return np.full(count * codec.bits // max(8, codec.bits), 0xFF if codec.bits == 4 else top, codes).tobytes() + (
        np.full(count // codec.block, (127 + 40) << 7, "<u2").tobytes()
    )
