"""Inner states that a worker keeps of its newest rounds, so that it need not train again to open them.

A round's states are the float32 vectors of each, one after the other, in one file. Keeping them costs no more than a
copy in memory: nothing is hashed or synced, and files are written over. What a crash damages shows when it is read, for
the trace has the fingerprint; it is then computed again, like what the limit on bytes leaves out.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anynode.training.fingerprint import state_fingerprint

log = logging.getLogger("anynode.training")

BYTES_MAX = 4 << 30
"""Of all states together. One round takes half of it at most, and does not push out what is still asked for."""
FORGOTTEN = "forgotten-"

Keep = Callable[[int, Sequence[Tensor]], None]
"""The boundary and the vectors [values] of a state on which work stands."""
Recall = Callable[[int, str], Sequence[Tensor] | None]
"""Boundary and fingerprint -> the vectors [values] of that state, if it is kept and whole."""


def no_keep(_boundary: int, _vectors: Sequence[Tensor]) -> None:
    """A `Keep` that keeps nothing."""


def no_recall(_boundary: int, _fingerprint: str) -> None:
    """A `Recall` where nothing is kept."""


def every(states: int, state_bytes: int, bytes_max: int) -> int:
    """Of ``states`` states every how many are kept, so that they take ``bytes_max`` at most; 0 for none."""
    room = bytes_max // state_bytes
    return -(-states // room) if room else 0


@dataclass(frozen=True, slots=True)
class _File:
    """The states of a round that was to have ``states`` of them, every ``step`` of which is kept, the last one first:
    that one every opening needs.
    """

    round: int
    states: int
    step: int

    @classmethod
    def parse(cls, path: Path) -> _File:
        round_, states, step = map(int, path.name.split("-"))
        return cls(round_, states, step)

    @property
    def name(self) -> str:
        return f"{self.round}-{self.states}-{self.step}"

    @property
    def count(self) -> int:
        return -(-self.states // self.step)

    def place(self, boundary: int) -> int | None:
        """Where in the file a state is."""
        place, between = divmod(self.states - boundary, self.step)
        return None if between else place


class KeptStates:
    """The kept states of one job's work, in ``folder``, which has nothing else in it."""

    def __init__(self, folder: Path, bytes_max: int = BYTES_MAX) -> None:
        self._folder, self._bytes_max = folder, bytes_max

    def keeper(self, round_: int, states: int) -> Keep:
        """Keeps states of a round's work, of which there will be ``states``, in place of the oldest rounds'. A disk
        that fails costs the states, not the work.
        """
        self.forget(round_)
        file, failed = _File(round_, states, 0), False

        def keep(boundary: int, vectors: Sequence[Tensor]) -> None:
            nonlocal file, failed
            if failed:
                return
            try:
                if not file.step:
                    state_bytes = sum(4 * vector.numel() for vector in vectors)
                    file = _File(round_, states, every(states, state_bytes, self._bytes_max // 2))
                    failed = not file.step
                    if failed:
                        return
                    self._begin(file, file.count * state_bytes)
                place = file.place(boundary)
                if place is not None:
                    _write(self._folder / file.name, place, vectors)
            except OSError as error:
                failed = True
                log.warning("states of round %d are not kept: %s", round_, error)

        return keep

    def recall(self, round_: int, vectors: int) -> Recall:
        """The states of a round, of so many ``vectors`` each."""

        def read(boundary: int, fingerprint: str) -> Sequence[Tensor] | None:
            for path in self._of(round_):
                file = _File.parse(path)
                place = file.place(boundary)
                if place is None:
                    continue
                values = path.stat().st_size // file.count // 4
                data = np.fromfile(path, np.float32, values, offset=4 * place * values)
                if data.size == values and values % vectors == 0:
                    found = torch.from_numpy(data).chunk(vectors)
                    return found if state_fingerprint(*found) == fingerprint else None
            return None

        return read

    def forget(self, round_: int) -> None:
        """Nothing of a round is asked for any more. Its file is written over with the next round's states: that costs a
        fifth of giving its memory back and taking it anew.
        """
        for path in self._of(round_):
            path.replace(path.with_name(FORGOTTEN + path.name))

    def tidy(self) -> None:
        """Delete what is forgotten."""
        for path in self._folder.glob(f"{FORGOTTEN}*"):
            path.unlink(missing_ok=True)

    def _of(self, round_: int) -> Iterator[Path]:
        return self._folder.glob(f"{round_}-*")

    def _begin(self, file: _File, size_bytes: int) -> None:
        """Make a file of this size, out of a forgotten one if there is any, where the limit leaves room for it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {path: path.stat().st_size for path in self._folder.glob("[0-9]*")}
        for path in sorted(kept, key=lambda item: _File.parse(item).round):
            if sum(kept.values()) + size_bytes > self._bytes_max:
                self.forget(_File.parse(path).round)
                del kept[path]
        target = self._folder / file.name
        with contextlib.suppress(StopIteration):
            next(self._folder.glob(f"{FORGOTTEN}*")).replace(target)
        with target.open("ab") as opened:
            opened.truncate(size_bytes)
        left_bytes = self._bytes_max - sum(kept.values()) - size_bytes
        for path in self._folder.glob(f"{FORGOTTEN}*"):
            left_bytes -= path.stat().st_size
            if left_bytes < 0:
                path.unlink()


def _write(path: Path, place: int, vectors: Sequence[Tensor]) -> None:
    parts = [vector.cpu().numpy().astype("<f4", copy=False).view(np.uint8).data for vector in vectors]
    size_bytes = sum(len(part) for part in parts)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.pwritev(descriptor, parts, place * size_bytes) != size_bytes:
            raise OSError("the disk takes no more")
    finally:
        os.close(descriptor)
