"""A verifier asks a worker to open states of its work, and the worker answers how far it is: both, on the wire."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.rounds.statements import digest, struct
from anynode.training.fields import Segment, Steps
from anynode.training.messages import OPENED_SEGMENTS_MAX, Opened
from anynode.worker.signed_request import SignedRequest
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence
from anynode_contracts.signing import Statement

ANSWER_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class OpenRequest(SignedRequest):
    """Open the states around ``segments`` of the work of a round."""

    what: ClassVar[str] = "request to open states"
    segments: Annotated[tuple[Segment, ...], MinLen(1), MaxLen(OPENED_SEGMENTS_MAX)]

    @property
    def statement(self) -> Statement:
        return struct(
            "OpenSegments",
            self.job,
            ("round", "uint64", self.round),
            ("peer", "string", self.peer),
            ("segments", "bytes32", digest(self.segments)),
        )


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """``opened`` when it is ready; until then, how many of ``total`` steps have been done again."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    done: Annotated[int, Ge(0), Le(1_000_000)]
    total: Steps
    opened: Opened | None = None


_answer: TypeAdapter[OpenAnswer] = TypeAdapter(OpenAnswer)


def encode_answer(answer: OpenAnswer) -> bytes:
    """Canonical JSON; `parse_answer` reads it."""
    return canonical_json(asdict(answer))


def parse_answer(data: bytes) -> OpenAnswer:
    """An answer of a worker. Raises ``BreachError`` unless it is well-formed."""
    try:
        return _answer.validate_json(data)
    except ValidationError as error:
        raise BreachError("a malformed answer about opened states is not used", Offence.SCHEMA) from error
