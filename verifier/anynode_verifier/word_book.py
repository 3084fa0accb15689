"""What this verifier has said of the slots of a job's newest rounds: a line each, on the disk before it is said.

It says one word on each slot, a receipt for one commitment or that it has nothing (`anynode.rounds.words`), whatever
dies in between, and however often the duty comes and goes.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anynode.rounds.ids import Round, Slot
from anynode.rounds.messages import Commitment, Receipt
from anynode.rounds.statements import statement
from anynode.rounds.words import NOTHING, nothing_of, word_of
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import InvariantError, StorageError, UserError
from anynode_contracts.files import append_synced, write_aside
from anynode_contracts.signing import SigningDomain, sign

ROUNDS_MAX = 4
"""Of so many rounds the words are kept; older ones are sealed long since."""


class Had(BaseModel):
    """We have receipted this commitment."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["had"] = "had"
    round: Round
    commitment: Commitment


class Nothing(BaseModel):
    """We have sealed, or wanted to, without these slots."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["nothing"] = "nothing"
    round: Round
    slots: tuple[Slot, ...]


Line = Had | Nothing
_line: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


class WordBook:
    """The words of ``account`` on the slots of one job, in the file ``path``. What was noted counts at once; it is said
    when `sync` has returned.
    """

    def __init__(self, path: Path, job: str, account: LocalAccount, domain: SigningDomain) -> None:
        self._path, self._job, self._account, self._domain = path, job, account, domain
        self._lines: list[Line] = []
        self._words: dict[tuple[int, int], str] = {}
        self._to_write: deque[Line] = deque()
        self._outgrown = False
        self._writing = threading.Lock()
        self._read()

    def receipt(self, commitment: Commitment) -> Receipt | None:
        """Our signed receipt, to be sent after a `sync`; none where we have said something else of the slot."""
        item = commitment
        place, word = (item.round, item.slot), word_of(item)
        if self._words.get(place, word) != word:
            return None
        if place not in self._words:
            self._note(Had(round=item.round, commitment=item))
        receipt = Receipt("receipt", item.node, item.round, item.slot, item.update_root, item.trace_root)
        signature = sign(self._account, self._domain, statement(self._job, receipt))
        return Receipt("receipt", item.node, item.round, item.slot, item.update_root, item.trace_root, signature)

    def sign_nothing(self, round_: int, slots: tuple[int, ...]) -> tuple[str, ...]:
        """Our signatures that we have given these slots no receipt, to be sent after a `sync`."""
        if any(self._words.get((round_, slot), NOTHING) != NOTHING for slot in slots):
            raise InvariantError(f"round {round_} is to be sealed without a commitment that was receipted")
        if any((round_, slot) not in self._words for slot in slots):
            self._note(Nothing(round=round_, slots=slots))
        said = (statement(self._job, nothing_of(round_, slot)) for slot in slots)
        return tuple(sign(self._account, self._domain, item) for item in said)

    def commitments(self, round_: int) -> tuple[Commitment, ...]:
        """What was receipted of a round."""
        return tuple(line.commitment for line in self._lines if isinstance(line, Had) and line.round == round_)

    def sync(self) -> None:
        """Return once all that was noted is on the disk. Raises ``StorageError`` when it is full."""
        with self._writing:
            new: list[Line] = []
            while self._to_write:
                new.append(self._to_write.popleft())
            outgrown, self._outgrown = self._outgrown, False
            try:
                if outgrown:  # a line that is noted meanwhile may be written twice, which says nothing else
                    write_aside(self._path, _bytes(*self._lines))
                elif new:
                    append_synced(self._path, _bytes(*new))
            except StorageError:
                self._to_write.extendleft(reversed(new))
                self._outgrown = outgrown
                raise

    def _note(self, line: Line) -> None:
        self._keep(line)
        self._to_write.append(line)

    def _keep(self, line: Line) -> None:
        newest = max((item.round for item in self._lines), default=line.round)
        if line.round > newest:
            self._outgrown = True
            self._lines = [item for item in self._lines if item.round > line.round - ROUNDS_MAX]
            self._words = {place: word for place, word in self._words.items() if place[0] > line.round - ROUNDS_MAX}
        self._lines.append(line)
        if isinstance(line, Had):
            self._words[line.round, line.commitment.slot] = word_of(line.commitment)
        else:
            self._words |= {(line.round, slot): NOTHING for slot in line.slots}

    def _read(self) -> None:
        """What an earlier run has said. A last line cut short by a crash was never said."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            write_aside(self._path, b"")  # its name must be on the disk before its lines are
            return
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}; mend the disk") from error
        try:
            for data in raw[: raw.rfind(b"\n") + 1].splitlines():
                self._keep(_line.validate_json(data))
        except ValidationError as error:
            raise UserError(
                f"{self._path} is damaged; restore it, or this verifier may break what it has promised"
            ) from error
        write_aside(self._path, _bytes(*self._lines))


def _bytes(*lines: Line) -> bytes:
    bodies = (
        line.model_dump() | ({"commitment": asdict(line.commitment)} if isinstance(line, Had) else {}) for line in lines
    )
    return b"".join(canonical_json(body) + b"\n" for body in bodies)
