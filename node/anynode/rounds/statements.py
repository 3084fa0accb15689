"""The EIP-712 structs behind the signed messages of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from blake3 import blake3

from anynode.rounds.appeals import Appeal
from anynode.rounds.ballots import Standing
from anynode.rounds.course import Committed
from anynode.rounds.judgements import Redone
from anynode.rounds.messages import ChunkDone, Claim, Commitment, DeliveryReceipt, Join, Receipt, StateReport
from anynode.rounds.votes import Vote
from anynode.rounds.words import receipted
from anynode_contracts.canonical import canonical_json
from anynode_contracts.signing import Kind, Statement

Signed = Appeal | Join | Commitment | Receipt | DeliveryReceipt | ChunkDone | Claim | StateReport | Vote | Standing


def statement(job: str, message: Signed) -> Statement:
    """The struct that is signed for ``message`` in job ``job`` (64 hexadecimal digits)."""
    match message:
        case Join():
            return struct(
                "Join",
                job,
                ("peer", "string", message.peer),
                ("hardware", "string", message.hardware),
                ("codeVersion", "string", message.code_version),
                ("reduces", "bool", message.reduces),
                ("audits", "bool", message.audits),
            )
        case Commitment():
            return struct(
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
            return statement(job, receipted(message))
        case DeliveryReceipt():
            return struct(
                "DeliveryReceipt",
                job,
                ("round", "uint64", message.round),
                ("attempt", "uint32", message.attempt),
                ("slot", "uint32", message.slot),
                ("reducer", "uint32", message.reducer),
                ("chunks", "bytes32", digest(message.chunks)),
                ("payloads", "bytes32", digest(message.payloads)),
                ("late", "bytes32", digest(message.late)),
            )
        case ChunkDone():
            return struct(
                "ChunkDone",
                job,
                ("round", "uint64", message.round),
                ("attempt", "uint32", message.attempt),
                ("slot", "uint32", message.slot),
                ("averages", "bytes32", digest([asdict(item) for item in message.averages])),
            )
        case Claim():
            return struct(
                "Claim",
                job,
                ("round", "uint64", message.round),
                ("slot", "uint32", message.slot),
                ("receipts", "bytes32", digest([asdict(item) for item in message.receipts])),
            )
        case StateReport():
            return struct(
                "StateReport",
                job,
                ("round", "uint64", message.round),
                ("stateRoot", "bytes32", bytes.fromhex(message.state_root)),
            )
        case Appeal():
            return struct("Appeal", job, ("round", "uint64", message.round))
        case Standing():
            return struct("Standing", job, ("view", "uint64", message.view), ("height", "uint64", message.height))
        case Vote():
            return struct(
                "Record",
                job,
                ("height", "uint64", message.height),
                ("view", "uint64", message.view),
                ("phase", "string", message.phase),
                ("record", "bytes32", bytes.fromhex(message.record)),
            )


def answer_statement(job: str, redone: Redone, *, round_: int, slot: int, steps: int, key: str) -> Statement:
    """The struct with which an auditor signs what it answers to the task that has this ``key``."""
    return struct(
        "AuditAnswer",
        job,
        ("round", "uint64", round_),
        ("slot", "uint32", slot),
        ("steps", "uint32", steps),
        ("key", "bytes32", bytes.fromhex(key)),
        ("updateRoot", "bytes32", bytes.fromhex(redone.update_root)),
        ("traceRoot", "bytes32", bytes.fromhex(redone.trace_root)),
        ("proof", "bytes32", bytes.fromhex(redone.proof)),
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


def digest(values: Sequence[object]) -> bytes:
    """The 32 bytes that stand for a list in a struct: BLAKE3 of its canonical JSON."""
    return blake3(canonical_json(values)).digest()


def struct(name: Kind, job: str, *fields: tuple[str, str, Any]) -> Statement:
    """The struct ``name`` with the job and then these fields, each a name, a Solidity type and a value."""
    all_fields = (("job", "bytes32", bytes.fromhex(job)), *fields)
    return Statement(
        name=name,
        types=tuple((field, kind) for field, kind, _ in all_fields),
        values={field: value for field, _, value in all_fields},
    )
