"""The EIP-712 structs behind the signed messages of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from blake3 import blake3

from anynode.rounds.messages import ChunkDone, Commitment, DeliveryReceipt, Join, Receipt, StateReport
from anynode.rounds.records import Committed, Record
from anynode_contracts.canonical import canonical_json
from anynode_contracts.signing import Statement

Signed = Join | Commitment | Receipt | DeliveryReceipt | ChunkDone | StateReport | Record


def statement(job: str, message: Signed) -> Statement:
    """The struct that is signed for ``message`` in job ``job`` (64 hexadecimal digits)."""
    match message:
        case Join():
            return _make(
                "Join",
                job,
                ("peer", "string", message.peer),
                ("hardware", "string", message.hardware),
                ("codeVersion", "string", message.code_version),
                ("reduces", "bool", message.reduces),
            )
        case Commitment():
            return _make(
                "Commitment",
                job,
                ("round", "uint64", message.round),
                ("slot", "uint32", message.slot),
                ("steps", "uint32", message.steps),
                ("samples", "uint64", message.samples),
                ("microBatch", "uint32", message.micro_batch),
                ("updateRoot", "bytes32", bytes.fromhex(message.update_root)),
                ("traceRoot", "bytes32", bytes.fromhex(message.trace_root)),
                ("hardware", "string", message.hardware),
                ("codeVersion", "string", message.code_version),
                ("energyMillijoule", "uint64", message.energy_mj),
            )
        case Receipt():
            return _make(
                "Receipt",
                job,
                ("node", "address", message.node),
                ("round", "uint64", message.round),
                ("slot", "uint32", message.slot),
                ("updateRoot", "bytes32", bytes.fromhex(message.update_root)),
                ("traceRoot", "bytes32", bytes.fromhex(message.trace_root)),
            )
        case DeliveryReceipt():
            return _make(
                "DeliveryReceipt",
                job,
                ("round", "uint64", message.round),
                ("attempt", "uint32", message.attempt),
                ("slot", "uint32", message.slot),
                ("reducer", "uint32", message.reducer),
                ("chunks", "bytes32", _digest(message.chunks)),
                ("payloads", "bytes32", _digest(message.payloads)),
            )
        case ChunkDone():
            return _make(
                "ChunkDone",
                job,
                ("round", "uint64", message.round),
                ("attempt", "uint32", message.attempt),
                ("slot", "uint32", message.slot),
                ("averages", "bytes32", _digest([asdict(item) for item in message.averages])),
            )
        case StateReport():
            return _make(
                "StateReport",
                job,
                ("round", "uint64", message.round),
                ("stateRoot", "bytes32", bytes.fromhex(message.state_root)),
            )
        case Record():
            return _make(
                "Record",
                job,
                ("height", "uint64", message.height),
                ("kind", "string", message.body.kind),
                ("previous", "bytes32", bytes.fromhex(message.previous)),
                ("record", "bytes32", bytes.fromhex(message.hash)),
            )


def commitment_of(item: Committed, round_: int) -> Commitment:
    """The signed commitment behind its entry in a seal."""
    return Commitment(
        kind="commitment",
        node=item.node,
        round=round_,
        slot=item.slot,
        steps=item.steps,
        samples=item.samples,
        micro_batch=item.micro_batch,
        update_root=item.update_root,
        trace_root=item.trace_root,
        hardware=item.hardware,
        code_version=item.code_version,
        energy_mj=item.energy_mj,
        signature=item.signature,
    )


def _digest(values: Sequence[object]) -> bytes:
    """The 32 bytes that stand for a list in a struct: BLAKE3 of its canonical JSON."""
    return blake3(canonical_json(values)).digest()


def _make(name: str, job: str, *fields: tuple[str, str, Any]) -> Statement:
    all_fields = (("job", "bytes32", bytes.fromhex(job)), *fields)
    return Statement(
        name=name,
        types=tuple((field, kind) for field, kind, _ in all_fields),
        values={field: value for field, _, value in all_fields},
    )
