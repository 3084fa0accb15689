"""States that a worker keeps: opened without training again, or from the nearest one; damaged ones are done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from line_job import STEPS, MemoryStore, initial_state, one_round, spec_of, workload

from anynode.blobs.store import BlobStore
from anynode.exact.state import State
from anynode.training.inner import Workload, work
from anynode.training.kept import KeptStates, Recall, every
from anynode.training.messages import Opened, Progress, WorkResult, WorkSpec
from anynode.training.opened import open_kept, open_segments, save_vectors
from anynode_contracts.errors import UserError

SEGMENTS, VALUES = 3, 48
STATE_BYTES = 3 * 4 * VALUES


class Kept:
    """One round's work of three segments (four, four and two steps), whose worker keeps what ``bytes_max`` allows."""

    def __init__(self, folder: Path, bytes_max: int = 1 << 20) -> None:
        self.task: Workload = workload()
        self.state: State = one_round(self.task, initial_state(), 2)
        self.spec: WorkSpec = spec_of(self.state, 1, refresh=False)
        self.states, self.store = KeptStates(folder / "kept", bytes_max), BlobStore(folder / "opened")
        self.folder = folder / "kept"
        keep = self.states.keeper(self.spec.round, SEGMENTS)
        self.result: WorkResult = work(self.task, self.state, self.spec, MemoryStore().keep, on_state=keep)

    @property
    def recall(self) -> Recall:
        return self.states.recall(self.spec.round, len(self.task.settings.inner_vectors))

    def from_disk(self, *segments: int) -> Opened | None:
        return open_kept(self.result.leaves, segments, lambda vectors: save_vectors(self.store, vectors), self.recall)

    def opened(self, *segments: int) -> tuple[Opened, int]:
        """What is opened, and how many steps were done for it."""
        steps: list[Progress] = []
        found = open_segments(
            self.task,
            self.state,
            self.spec,
            self.result.leaves,
            segments,
            save=lambda vectors: save_vectors(self.store, vectors),
            recall=self.recall,
            report=steps.append,
        )
        return found, len(steps)

    def damage(self, *boundaries: int) -> None:
        """A bit of each of these states is another; the last state comes first in the file."""
        path = self.folder / f"{self.spec.round}-{SEGMENTS}-1"
        data = bytearray(path.read_bytes())
        for boundary in boundaries:
            data[(SEGMENTS - boundary) * STATE_BYTES + 40] ^= 1
        path.write_bytes(data)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.mark.parametrize("segments", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_what_is_kept_is_opened_as_if_it_were_done_again(tmp_path: Path, segments: tuple[int, ...]) -> None:
    kept = Kept(tmp_path)
    found, steps = kept.opened(*segments)
    assert kept.from_disk(*segments) == found and steps == 0
    kept.states.forget(kept.spec.round)
    assert kept.from_disk(*segments) is None
    assert kept.opened(*segments) == (found, STEPS)


@pytest.mark.parametrize(("damaged", "steps"), [((3,), 2), ((2,), 4), ((1,), 4), ((2, 3), 6), ((1, 2, 3), 10)])
def test_what_is_damaged_is_done_again_from_the_nearest_state(
    tmp_path: Path, damaged: tuple[int, ...], steps: int
) -> None:
    kept = Kept(tmp_path)
    expected = kept.from_disk(0, 1, 2)
    kept.damage(*damaged)
    assert kept.from_disk(0, 1, 2) is None
    assert kept.opened(0, 1, 2) == (expected, steps)
    (kept.folder / kept.files[0]).write_bytes(b"short")
    assert kept.opened(0, 1, 2) == (expected, STEPS)


def test_a_machine_that_gives_other_bits_says_so(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.states.forget(kept.spec.round)
    leaf = replace(kept.result.leaves[1], after="ab" * 32)
    kept.result = replace(kept.result, leaves=(kept.result.leaves[0], leaf, kept.result.leaves[2]))
    with pytest.raises(UserError, match="does not give the same bits again"):
        kept.opened(1)


def test_a_limit_on_bytes_keeps_every_so_many_counted_from_the_last(tmp_path: Path) -> None:
    kept = Kept(tmp_path, bytes_max=4 * STATE_BYTES)
    assert kept.files == [f"{kept.spec.round}-{SEGMENTS}-2"], (
        "two of three fit in half of the limit: the first, the last"
    )
    assert kept.opened(1)[1] == 4
    assert [every(20, 10, room) for room in (200, 199, 100, 30, 10, 9)] == [1, 2, 2, 7, 20, 0]
    none = Kept(tmp_path / "none", bytes_max=STATE_BYTES)
    assert not none.folder.exists() and none.opened(1)[1] == STEPS, "no state fits"


def test_files_are_used_again_and_the_oldest_round_makes_room(tmp_path: Path) -> None:
    kept = Kept(tmp_path, bytes_max=6 * STATE_BYTES)
    vectors = kept.recall(SEGMENTS, kept.result.leaves[-1].after)
    assert vectors is not None
    for round_ in (8, 9, 10):
        keep = kept.states.keeper(round_, SEGMENTS)
        for boundary in (1, 2, 3):
            keep(boundary, vectors)
    assert kept.files == ["10-3-1", "9-3-1"]
    inode = (kept.folder / "9-3-1").stat().st_ino
    kept.states.forget(9)
    assert kept.files == ["10-3-1", "forgotten-9-3-1"]
    kept.states.keeper(11, 2)(1, vectors)
    assert kept.files == ["10-3-1", "11-2-1"]
    after = (kept.folder / "11-2-1").stat()
    assert (after.st_ino, after.st_size) == (inode, 2 * STATE_BYTES)
    kept.states.forget(10)
    kept.states.tidy()
    assert kept.files == ["11-2-1"]


def test_a_disk_that_fails_costs_no_work(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    keep = KeptStates(tmp_path / "file").keeper(1, SEGMENTS)
    keep(1, [torch.zeros(4)])
    keep(2, [torch.zeros(4)])
    assert KeptStates(tmp_path / "file").recall(1, 1)(1, "ab" * 32) is None
    assert kept.from_disk(0, 1, 2) is not None
