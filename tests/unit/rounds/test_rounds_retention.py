"""What of past rounds is kept: decided over the records, and carried out without ever losing what is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from round_actors import BODIES, NEXT, START, chain_of

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds.course import Begin, Close, Open, Result, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import PROTOCOL
from anynode.rounds.records import Body, Record
from anynode.rounds.retention import COORDINATOR, UNJUDGED_ROUNDS, Footprint, Retention, footprints, needed
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping

_, OPEN, SEAL, _, RESULT, CLOSE, VERDICT, _ = BODIES


def past(rounds: int, final: int) -> list[Footprint]:
    """``rounds`` rounds of which the first ``final`` have their verdicts."""
    return [Footprint(n, f"s{n}", (f"u{n}",), (f"r{n}",), final=n < final) for n in range(rounds)]


def numbers(names: frozenset[str]) -> list[int]:
    return sorted(int(name[1:]) for name in names)


def test_records_tell_what_each_round_leaves() -> None:
    void = Result("result", 1, (), (), 0, 16, ())
    assert isinstance(OPEN, Open)
    records = chain_of(*BODIES[:-1], replace(OPEN, round=1, state_root=NEXT), void)
    assert footprints(records) == [
        Footprint(0, START, ("3" * 64,), ("6" * 64,), final=True),
        Footprint(1, NEXT, (), (), final=True),
    ]
    assert footprints([]) == []


def test_a_member_keeps_few_states_and_contributions_until_their_verdicts_are_final() -> None:
    kept = needed(past(101, final=101), Retention(states=3))
    assert numbers(kept.states) == [98, 99, 100]
    assert numbers(kept.updates) == numbers(kept.results) == list(range(68, 101))
    late = needed(past(101, final=40), Retention(states=3))
    assert numbers(late.updates) == list(range(40, 101))
    assert numbers(late.states) == [98, 99, 100]


def test_a_verdict_that_never_comes_fills_no_disk() -> None:
    kept = needed(past(1000, final=0), Retention(states=3))
    assert numbers(kept.updates) == list(range(999 - UNJUDGED_ROUNDS, 1000))


def test_a_coordinator_keeps_results_for_ever_and_what_a_replay_needs() -> None:
    kept = needed(past(121, final=110), COORDINATOR)
    assert numbers(kept.results) == list(range(121))
    assert numbers(kept.states) == [0, 50, 100, *range(110, 121)]


class Played:
    """A job that has been played for some rounds: its blobs are in the store, its records here."""

    def __init__(self, folder: Path, store: BlobStore, name: str = "job") -> None:
        self.home, self.store, self.name = JobHome(folder / "jobs" / name), store, name
        self.same = b"moments that do not change"
        self.bodies: list[Body] = [Begin("begin", PROTOCOL, self.state(0))]

    @property
    def records(self) -> list[Record]:
        return chain_of(*self.bodies)

    def state(self, round_: int) -> str:
        return self.blob("state", [f"{self.name} state {round_}".encode() * 50, self.same])

    def blob(self, kind: str, pieces: list[bytes]) -> str:
        chunks = tuple(ChunkRef(self.store.put(piece), len(piece)) for piece in pieces)
        return self.store.put_manifest(Manifest(kind, {}, chunks))

    def round(self, number: int) -> None:
        """One round with one update and one averaged chunk, judged at its end."""
        assert isinstance(OPEN, Open) and isinstance(SEAL, Seal) and isinstance(RESULT, Result)
        assert isinstance(CLOSE, Close) and isinstance(VERDICT, Verdict)
        update = self.blob("update", [f"update {number}".encode() * 30])
        average = self.store.put(f"average {number}".encode() * 30)
        entry = replace(RESULT.chunks[0], result=average)
        self.bodies += [
            replace(OPEN, round=number, state_root=self.state(number)),
            replace(SEAL, round=number, commitments=(replace(SEAL.commitments[0], update_root=update),)),
            replace(RESULT, round=number, chunks=(entry,)),
            replace(CLOSE, round=number, state_root=self.state(number + 1)),
            replace(VERDICT, round=number),
        ]

    def whole(self, rule: Retention) -> bool:
        """Whether all that is needed is here, bit for bit."""
        blobs = needed(footprints(self.records), rule)
        for kind, roots in (("state", blobs.states), ("update", blobs.updates)):
            for root in roots:
                self.store.read(self.store.manifest(root, kind))
        return all(self.store.has(digest) for digest in blobs.results)


def aged(store: BlobStore) -> Iterator[Path]:
    """Every blob, made an hour older on the way."""
    for path in store.folder.glob("*/*"):
        stored_s = path.stat().st_mtime - 3600.0
        os.utime(path, (stored_s, stored_s))
        yield path


def test_the_disk_does_not_fill_however_long_a_job_runs(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    job = Played(tmp_path, store)
    rule = Retention(states=2)
    keeping, counts = Keeping(job.home, store, rule, []), []
    for number in range(90):
        job.round(number)
        store.put(f"of an attempt that did not count {number}".encode())
        counts.append(len(list(aged(store))))
        keeping.sweep(job.records)
        assert job.whole(rule)
    # 33 rounds with an update (2 blobs) and an average, 2 states (2 blobs and one shared), what is new, the forgotten.
    assert max(counts) == max(counts[-20:]) <= 33 * 3 + 2 * 2 + 1 + 12
    assert min(counts[-20:]) == max(counts[-20:])


def test_a_crash_in_the_middle_of_deleting_loses_nothing_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path / "blobs")
    job, rule = Played(tmp_path, store), Retention(states=1)
    for number in range(60):
        job.round(number)
    list(aged(store))
    before = len(list(store.folder.glob("*/*")))
    unlink, left = Path.unlink, 40

    def failing(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if path.is_relative_to(store.folder):
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", failing)
    with pytest.raises(KeyboardInterrupt):
        Keeping(job.home, store, rule, []).sweep(job.records)
    monkeypatch.undo()
    assert len(list(store.folder.glob("*/*"))) == before - 40 and job.whole(rule)
    Keeping(job.home, store, rule, []).sweep(job.records)  # as after a restart
    assert len(list(store.folder.glob("*/*"))) == 33 * 3 - 3 + 3 and job.whole(rule)


def test_jobs_that_share_a_store_do_not_take_each_others_blobs(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    old, young = Played(tmp_path, store, "old"), Played(tmp_path, store, "young")
    young.bodies = [Begin("begin", PROTOCOL, old.state(0))]  # both began from one model
    file_root = young.blob("file", [b"weights"])
    for number in range(50):
        old.round(number)
    Keeping(young.home, store, Retention(), [file_root]).note(young.records)
    for _ in range(30):
        list(aged(store))
    freed = Keeping(old.home, store, Retention(), []).sweep(old.records)
    assert freed > 0 and young.whole(Retention()) and old.whole(Retention())
    assert store.read(store.manifest(file_root, "file")) == b"weights"


def test_what_was_stored_a_moment_ago_stays(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    job = Played(tmp_path, store)
    for number in range(50):
        job.round(number)
    assert Keeping(job.home, store, Retention(), []).sweep(job.records) == 0


def test_a_restart_finds_the_newest_state_that_is_whole(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    job = Played(tmp_path, store)
    for number in range(4):
        job.round(number)
    keeping = Keeping(job.home, store, Retention(), [])
    newest, older = job.state(4), job.state(3)
    assert keeping.newest_whole(job.records, (4, newest)) == (4, newest)
    path = store.path(store.manifest(newest, "state").chunks[0].hash)
    path.write_bytes(bytes(path.stat().st_size))  # as after a power cut
    assert keeping.newest_whole(job.records, (4, newest)) == (3, older)
    for path in store.folder.glob("*/*"):
        path.unlink()
    assert keeping.newest_whole(job.records, (4, newest)) == (-1, "")
    assert keeping.newest_whole([], (-1, "")) == (-1, "")
