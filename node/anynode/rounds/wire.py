"""Messages as bytes: one byte for the protocol version and canonical JSON out, one strict and limited parse in.

Records follow an answer, or stand alone in a push, packed as `packing.py` has it.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Annotated, TypeVar

from annotated_types import MaxLen
from pydantic import Field, TypeAdapter, ValidationError

from anynode.rounds.messages import (
    PROTOCOL,
    Accusation,
    ChunkDone,
    Claim,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Elsewhere,
    Join,
    Leave,
    Receipt,
    Refused,
    StateReport,
    Sync,
    WorkLeft,
)
from anynode.rounds.packing import RECORDS_MAX, pack, unpack
from anynode.rounds.records import SignedRecord
from anynode.rounds.roster import Roster
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

T = TypeVar("T")

REQUEST_BYTES_MAX = 1 << 20
RECORDS_BYTES_MAX = 16 << 20
_LENGTH = struct.Struct(">I")

Said = Join | Sync | Commitment | ChunkDone | DeliveryReceipt | Claim | StateReport | Leave | Accusation
"""What a member says to the coordinator."""

ToCoordinator = Annotated[Said, Field(discriminator="kind")]
Word = Receipt | Refused | WorkLeft | Elsewhere
"""What a coordinator says to one member."""

Answer = Annotated[Word, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class CoordinatorAnswer:
    """What a coordinator answers to any message: its word on it, and records that the member lacks."""

    answer: Word | None
    records: tuple[SignedRecord, ...]


_to_coordinator: TypeAdapter[Said] = TypeAdapter(ToCoordinator)
_answer: TypeAdapter[Word | None] = TypeAdapter(Answer | None)
_delivery: TypeAdapter[Delivery] = TypeAdapter(Delivery)
_delivery_receipt: TypeAdapter[DeliveryReceipt] = TypeAdapter(DeliveryReceipt)
_records: TypeAdapter[tuple[SignedRecord, ...]] = TypeAdapter(Annotated[tuple[SignedRecord, ...], MaxLen(RECORDS_MAX)])


def encode(message: Said | Delivery) -> bytes:
    """The version and canonical JSON of one message."""
    return _versioned(canonical_json(asdict(message)))


def encode_answer(answer: CoordinatorAnswer, roster: Roster) -> bytes:
    """The version, the coordinator's word with its length, and the records that ``roster`` has noted, packed."""
    word = canonical_json(asdict(answer.answer) if answer.answer else None)
    return _versioned(_LENGTH.pack(len(word)) + word + pack(answer.records, roster))


def encode_push(records: tuple[SignedRecord, ...], roster: Roster) -> bytes:
    """The version and a run of records, packed."""
    return _versioned(pack(records, roster))


def encode_records(records: tuple[SignedRecord, ...]) -> bytes:
    """A run of records as the public has them: canonical JSON, rich and without any context."""
    return canonical_json([asdict(record) for record in records])


def parse_to_coordinator(data: bytes) -> Said:
    return _parse(_to_coordinator, data, "message to the coordinator")


def parse_answer(data: bytes, roster: Roster) -> CoordinatorAnswer:
    """An answer, with the records that can be read by one who has those that ``roster`` has noted."""
    what = "answer of the coordinator"
    body = _body(data, what)
    length = _LENGTH.unpack_from(body)[0] if len(body) >= _LENGTH.size else len(body)
    if _LENGTH.size + length > len(body):
        raise BreachError(f"an {what} is cut short; it is ignored", Offence.SCHEMA)
    word = body[_LENGTH.size : _LENGTH.size + length]
    return CoordinatorAnswer(_validate(_answer, word, what), unpack(body[_LENGTH.size + length :], roster))


def parse_push(data: bytes, roster: Roster) -> tuple[SignedRecord, ...]:
    """A run of records; none when they begin above those that ``roster`` has noted."""
    return unpack(_body(data, "push of records"), roster)


def parse_delivery(data: bytes) -> Delivery:
    return _parse(_delivery, data, "delivery")


def parse_delivery_receipt(data: bytes) -> DeliveryReceipt:
    return _parse(_delivery_receipt, data, "delivery receipt")


def parse_records(data: bytes) -> tuple[SignedRecord, ...]:
    return _validate(_records, data, "run of records")


def _versioned(body: bytes) -> bytes:
    return bytes([PROTOCOL]) + body


def _parse(adapter: TypeAdapter[T], data: bytes, what: str) -> T:
    return _validate(adapter, _body(data, what), what)


def _body(data: bytes, what: str) -> bytes:
    """What follows the version. Raises ``RefusedError`` for another version than ours."""
    if data[:1] != bytes([PROTOCOL]):
        raise RefusedError(
            f"a {what} speaks another version of the protocol than {PROTOCOL}; update AnyNode on the older side"
        )
    return data[1:]


def _validate(adapter: TypeAdapter[T], data: bytes, what: str) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its start"
        raise BreachError(
            f"a {what} is malformed at {where[:100]} ({first['msg'][:100]}); it is ignored", Offence.SCHEMA
        ) from error
