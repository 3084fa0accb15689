"""The deliveries of the last rounds on disk, a line each: what a member has promised outlives its process.

A line is written before the receipt that it tells of leaves. It needs no sync: a machine that loses its power is gone
for longer than its chunks wait for it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anynode.rounds.ids import Attempt, Chunk, Round, Slot
from anynode.rounds.messages import DeliveryReceipt
from anynode.rounds.promises import Promises
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import StorageError
from anynode_contracts.files import write_aside

ROUNDS_MAX = 8
"""So many rounds are remembered: their verdicts are due."""


class Given(BaseModel):
    """We have receipted these chunks of ``slot``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["given"] = "given"
    round: Round
    slot: Slot
    chunks: tuple[Chunk, ...]


class Fixed(BaseModel):
    """We average ``chunk`` from these senders."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["fixed"] = "fixed"
    round: Round
    attempt: Attempt
    chunk: Chunk
    senders: tuple[Slot, ...]


class Held(BaseModel):
    """Another has given us this receipt."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["held"] = "held"
    round: Round
    receipt: DeliveryReceipt


Line = Given | Fixed | Held
_line: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


class ReceiptBook:
    """The book of one job in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = self._read()

    def note(self, line: Line) -> None:
        """Write a line down. Raises ``StorageError`` when the disk is full."""
        newest = max((item.round for item in self._lines), default=-1)
        self._lines.append(line)
        if line.round > newest:
            self._lines = [item for item in self._lines if item.round > line.round - ROUNDS_MAX]
            write_aside(self._path, b"".join(_bytes(item) for item in self._lines))
            return
        try:
            with self._path.open("ab") as file:
                file.write(_bytes(line))
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}; make room on the disk") from error

    def promises(self) -> dict[int, Promises]:
        """What was promised, by round."""
        return {number: self._of(number) for number in {line.round for line in self._lines}}

    def _of(self, number: int) -> Promises:
        given: dict[int, frozenset[int]] = {}
        fixed: dict[int, dict[int, tuple[int, ...]]] = {}
        held: list[DeliveryReceipt] = []
        for line in self._lines:
            if line.round != number:
                continue
            match line:
                case Given():
                    given |= {chunk: given.get(chunk, frozenset()) | {line.slot} for chunk in line.chunks}
                case Fixed():
                    fixed.setdefault(line.attempt, {})[line.chunk] = line.senders
                case Held():
                    held.append(line.receipt)
        return Promises(given, fixed, tuple(held))

    def _read(self) -> list[Line]:
        """The whole lines of the file; one that a killed process has left half written told nobody anything."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return []
        lines: list[Line] = []
        for data in raw.splitlines():
            try:
                lines.append(_line.validate_json(data))
            except ValidationError:
                break
        write_aside(self._path, b"".join(_bytes(item) for item in lines))
        return lines


def _bytes(line: Line) -> bytes:
    body = line.model_dump() if not isinstance(line, Held) else line.model_dump() | {"receipt": asdict(line.receipt)}
    return canonical_json(body) + b"\n"
