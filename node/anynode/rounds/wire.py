"""Messages as bytes: one byte for the protocol version and canonical JSON out, one strict and limited parse in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, TypeVar

from annotated_types import MaxLen
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from anynode.rounds.messages import (
    PROTOCOL,
    ChunkDone,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Join,
    Leave,
    Receipt,
    Refused,
    StateReport,
    Sync,
)
from anynode.rounds.records import SignedRecord
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

T = TypeVar("T")

REQUEST_BYTES_MAX = 1 << 20
RECORDS_BYTES_MAX = 16 << 20
RECORDS_MAX = 64

Said = Join | Sync | Commitment | ChunkDone | DeliveryReceipt | StateReport | Leave
"""What a member says to the coordinator."""

ToCoordinator = Annotated[Said, Field(discriminator="kind")]
Answer = Annotated[Receipt | Refused, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class CoordinatorAnswer:
    """What a coordinator answers to any message: its word on it, and records that the member lacks."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    answer: Answer | None
    records: Annotated[tuple[SignedRecord, ...], MaxLen(RECORDS_MAX)]


_to_coordinator: TypeAdapter[Said] = TypeAdapter(ToCoordinator)
_answer: TypeAdapter[CoordinatorAnswer] = TypeAdapter(CoordinatorAnswer)
_delivery: TypeAdapter[Delivery] = TypeAdapter(Delivery)
_delivery_receipt: TypeAdapter[DeliveryReceipt] = TypeAdapter(DeliveryReceipt)
_records: TypeAdapter[tuple[SignedRecord, ...]] = TypeAdapter(Annotated[tuple[SignedRecord, ...], MaxLen(RECORDS_MAX)])


def encode(message: Said | Delivery) -> bytes:
    """The version and canonical JSON of one message."""
    return _versioned(canonical_json(asdict(message)))


def encode_answer(answer: CoordinatorAnswer) -> bytes:
    """The version and canonical JSON of a coordinator's answer."""
    return _versioned(canonical_json(asdict(answer)))


def encode_records(records: tuple[SignedRecord, ...]) -> bytes:
    """The version and canonical JSON of a run of records."""
    return _versioned(canonical_json([asdict(record) for record in records]))


def parse_to_coordinator(data: bytes) -> Said:
    return _parse(_to_coordinator, data, "message to the coordinator")


def parse_answer(data: bytes) -> CoordinatorAnswer:
    return _parse(_answer, data, "answer of the coordinator")


def parse_delivery(data: bytes) -> Delivery:
    return _parse(_delivery, data, "delivery")


def parse_delivery_receipt(data: bytes) -> DeliveryReceipt:
    return _parse(_delivery_receipt, data, "delivery receipt")


def parse_records(data: bytes) -> tuple[SignedRecord, ...]:
    return _parse(_records, data, "run of records")


def _versioned(body: bytes) -> bytes:
    return bytes([PROTOCOL]) + body


def _parse(adapter: TypeAdapter[T], data: bytes, what: str) -> T:
    if data[:1] != bytes([PROTOCOL]):
        raise RefusedError(
            f"a {what} speaks another version of the protocol than {PROTOCOL}; update AnyNode on the older side"
        )
    try:
        return adapter.validate_json(data[1:])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its start"
        raise BreachError(
            f"a {what} is malformed at {where[:100]} ({first['msg'][:100]}); it is ignored", Offence.SCHEMA
        ) from error
