"""Averaging chunks again: real updates, real averages, in two training processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from round_actors import ALICE, BOB, PEER_ID
from small_job import SmallJob, make_small_job

from anynode.blobs.store import BlobStore
from anynode.exact.layout import chunk_specs
from anynode.rounds.course import Assign, ChunkResult, Committed, Member, Open, Reducer, Result, Seal
from anynode.rounds.effects import AverageAgain
from anynode.swarm.payloads import CHUNKS, PER_SOURCE, SILENT_S
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits, ReduceInput, ReduceSpec
from anynode.worker.home import JobHome
from anynode_contracts.errors import UnreachableError
from anynode_verifier import chunk_audits
from anynode_verifier.chunk_audits import ChunkAuditor
from anynode_verifier.resuming import trainer_keeper

NODES = (ALICE, BOB)


class Nobody:
    """A swarm in which no peer answers any more."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float | None]] = []
        self.hangs = False

    async def call(self, peer_id: str, name: str, *_: Any, silent_s: float | None = None) -> bytes:
        if name == CHUNKS:
            self.asked.append((peer_id, silent_s))
        if self.hangs:
            await asyncio.Event().wait()
        raise UnreachableError("nobody is there")

    @contextmanager
    def blaming(self, _: str) -> Iterator[None]:
        yield


@asynccontextmanager
async def round_of(
    folder: Path, peers: Nobody | None = None
) -> AsyncIterator[tuple[ChunkAuditor, AverageAgain, BlobStore]]:
    """A round of two workers whose chunks are averaged rightly, and who audits it from a store that has all of it."""
    home = JobHome(folder / "job")
    home.files.mkdir(parents=True)
    job = make_small_job(home.files)
    store = BlobStore(folder / "blobs")
    trainers = trainer_keeper(store.folder, home, "first.log", Limits())
    auditor = ChunkAuditor(job.job, home, cast(Peer, peers or Nobody()), store, trainers=trainers, others=list)
    try:
        yield auditor, await trained(job, trainers, store), store
    finally:
        await trainers.close()


async def trained(job: SmallJob, trainers: TrainerKeeper, store: BlobStore) -> AverageAgain:
    trainer = await trainers.get()
    start = await trainer.initial_state()
    done = [await trainer.work(job.spec(start, slot=slot, steps=3)) for slot in (0, 1)]
    payloads = [store.manifest(work.update_root, "update").chunks for work in done]
    indices = [spec.index for spec in chunk_specs(trainer.parameters, True)]
    specs = [
        ReduceSpec(
            job.job.job_id,
            0,
            index,
            True,
            tuple(
                ReduceInput(slot, payloads[slot][index].hash, work.samples, work.steps)
                for slot, work in enumerate(done)
            ),
        )
        for index in indices
    ]
    averages = [str(item) for item in await trainer.reduce(specs)]
    members = tuple(Member(slot, node, PEER_ID, "class", 3, False, True, False, "") for slot, node in enumerate(NODES))
    committed = tuple(
        Committed(
            slot,
            NODES[slot],
            work.steps,
            work.samples,
            work.micro_batch,
            work.update_root,
            work.trace_root,
            "class",
            "1",
            0,
            "",
        )
        for slot, work in enumerate(done)
    )
    return AverageAgain(
        Open("open", 0, start, "0x", True, members, ((), ()), 0, (), 3, 20, 10),
        Seal("seal", 0, committed, (), "5" * 64, 7, (1_000_000, 1_000_000), "", ()),
        Assign("assign", 0, 0, (0, 1), (), (), (), tuple(Reducer(index, 1, 0) for index in indices), ()),
        Result("result", 0, tuple(ChunkResult(i, 0, 1, (0, 1), averages[i]) for i in indices), (), 3, 0, ()),
        tuple(indices),
    )


def lose(effect: AverageAgain, slot: int, store: BlobStore) -> None:
    """Whatever a slot has sent is not here."""
    for chunk in store.manifest(effect.seal.commitments[slot].update_root, "update").chunks:
        (store.folder / chunk.hash[:2] / chunk.hash[2:]).unlink()


def changed(effect: AverageAgain, chunk: int, **changes: Any) -> AverageAgain:
    entries = tuple(replace(entry, **changes) if entry.chunk == chunk else entry for entry in effect.result.chunks)
    return replace(effect, result=replace(effect.result, chunks=entries))


def test_a_wrong_average_is_rejected_and_what_nobody_gives_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_audits, "PAUSE_S", 0.0)

    async def audit() -> None:
        async with round_of(tmp_path) as (auditor, honest, store):
            assert (await auditor.average_again(honest)).found == ()
            false = changed(honest, 1, result="f" * 64)
            (item,) = (await auditor.average_again(false)).found
            assert (item.chunk, item.slot, item.node, item.outcome) == (1, 1, BOB, "rejected")
            assert "ffffffffffffffff" in item.reason
            (item,) = (await auditor.average_again(changed(honest, 0, senders=(0,)))).found
            assert (item.chunk, item.outcome) == (0, "rejected"), "the average of other senders than it says"
            first = store.manifest(honest.seal.commitments[0].update_root, "update").chunks[1].hash
            (store.folder / first[:2] / first[2:]).unlink()
            (item,) = (await auditor.average_again(honest)).found
            assert (item.chunk, item.outcome) == (1, "withheld")

    asyncio.run(audit())


def test_a_reducer_that_keeps_silent_holds_up_a_further_look_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its chunks are looked at, and though it has sent to all of them itself."""
    monkeypatch.setattr(chunk_audits, "CHUNKS_AT_ONCE", 1)

    async def audit() -> None:
        peers = Nobody()
        async with round_of(tmp_path, peers) as (auditor, honest, store):
            lose(honest, 1, store)
            members = tuple(replace(member, peer=f"peer {member.slot}") for member in honest.open.members)
            again = replace(honest, open=replace(honest.open, members=members), look=1)
            found = (await auditor.average_again(again)).found
            assert [(item.chunk, item.outcome) for item in found] == [(chunk, "withheld") for chunk in honest.chunks]
            to_reducer = [silent_s for peer_id, silent_s in peers.asked if peer_id == "peer 1"]
            assert to_reducer == [SILENT_S] * PER_SOURCE

    asyncio.run(audit())


def test_a_look_ends_though_an_answer_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a byte now and then is not silent; what does not come in time is asked for again."""
    monkeypatch.setattr(chunk_audits, "look_s", lambda _: 0.2)

    async def audit() -> None:
        peers = Nobody()
        async with round_of(tmp_path, peers) as (auditor, honest, store):
            lose(honest, 1, store)
            peers.hangs = True
            async with asyncio.timeout(60):
                found = (await auditor.average_again(honest)).found
            assert {item.outcome for item in found} == {"withheld"}

    asyncio.run(audit())
