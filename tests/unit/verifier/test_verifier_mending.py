"""A state that is damaged on the coordinator's disk comes back from an older one and the results since."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from round_actors import BODIES, PROTOCOL, chain_of

from anynode.blobs.store import BlobStore
from anynode.rounds.course import Begin, Close, Open, Result, Seal
from anynode.rounds.records import Body, Record
from anynode.rounds.retention import COORDINATOR
from anynode.training.messages import ApplySpec
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping
from anynode_contracts.errors import UserError
from anynode_verifier.mending import mend

OPEN, SEAL, RESULT, CLOSE = BODIES[1], BODIES[2], BODIES[4], BODIES[5]
assert isinstance(OPEN, Open)
assert isinstance(SEAL, Seal)
assert isinstance(RESULT, Result)
assert isinstance(CLOSE, Close)
ROUNDS = 4


class Kept:
    """Four closed rounds: their records, and the states in a store; an outer step is a function of the state's root."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder / "blobs")
        self.keeping = Keeping(JobHome(folder / "jobs" / "job"), self.store, COORDINATOR, [])
        self.roots = [self.state(number) for number in range(ROUNDS + 1)]
        self.applied: list[int] = []

    def state(self, number: int) -> str:
        return self.store.put_bytes("state", {}, f"state {number}".encode()).root

    @property
    def records(self) -> list[Record]:
        bodies: list[Body] = [Begin("begin", PROTOCOL, self.roots[0])]
        for number in range(ROUNDS):
            bodies.append(replace(OPEN, round=number, state_root=self.roots[number]))
            bodies.append(replace(SEAL, round=number))
            bodies.append(replace(RESULT, round=number))
            bodies.append(replace(CLOSE, round=number, state_root=self.roots[number + 1]))
        return chain_of(*bodies)

    async def apply(self, spec: ApplySpec) -> str:
        first = self.roots.index(spec.state_root)
        assert b"".join(self.store.get(chunk.hash) for chunk in self.store.manifest(spec.state_root, "state").chunks)
        self.applied += range(first, first + len(spec.steps))
        return self.state(first + len(spec.steps))

    def damage(self, number: int) -> None:
        chunk = self.store.manifest(self.roots[number], "state").chunks[0].hash
        self.store.path(chunk).write_bytes(b"garbage")

    def mend(self) -> None:
        asyncio.run(mend(self.records, ROUNDS, self.keeping.is_whole, self.apply))


def test_a_whole_state_is_left_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.mend()
    assert kept.applied == []


def test_the_newest_state_is_made_anew_from_the_newest_whole_one(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.damage(ROUNDS)
    kept.damage(ROUNDS - 1)
    kept.mend()
    assert kept.applied == [ROUNDS - 2, ROUNDS - 1]
    assert kept.store.read(kept.store.manifest(kept.roots[ROUNDS], "state")) == f"state {ROUNDS}".encode()


def test_without_any_whole_state_it_says_what_to_do(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in range(ROUNDS + 1):
        kept.damage(number)
    with pytest.raises(UserError, match="no older one is whole; put the verifier's folder back"):
        kept.mend()


def test_a_step_that_leads_elsewhere_is_not_gone_on_from(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    records = kept.records
    kept.damage(ROUNDS)

    async def elsewhere(spec: ApplySpec) -> str:
        return "f" * 64

    with pytest.raises(UserError, match="is another than its record names"):
        asyncio.run(mend(records, ROUNDS, kept.keeping.is_whole, elsewhere))
