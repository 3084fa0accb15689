"""Who takes part in these tests, and the bodies of a small round, valid in every field."""

from __future__ import annotations

from functools import cache

from blake3 import blake3
from eth_account import Account
from eth_account.signers.local import LocalAccount

from anynode.rounds.records import (
    GENESIS,
    Assign,
    Begin,
    Body,
    ChunkResult,
    Close,
    Committed,
    Finish,
    Judged,
    Member,
    Open,
    Reason,
    Record,
    Reducer,
    Reduction,
    Report,
    Result,
    Seal,
    SignedRecord,
    Verdict,
)
from anynode.rounds.statements import statement
from anynode_contracts.signing import SigningDomain, sign

JOB, OTHER_JOB = "a" * 64, "b" * 64
DOMAIN = SigningDomain(31337, f"0x{902:040d}")
PEER_ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
START, NEXT = "1" * 64, "2" * 64
SIGNATURE = "0x" + "5" * 130


@cache
def key(name: str) -> LocalAccount:
    """The key of this name, always the same."""
    account: LocalAccount = Account.from_key(blake3(name.encode()).digest())
    return account


ALICE, BOB, COORDINATOR = key("alice").address, key("bob").address, key("coordinator").address

BODIES: tuple[Body, ...] = (
    Begin("begin", 2, START),
    Open(
        "open",
        0,
        START,
        "0x" + "e" * 64,
        True,
        (Member(0, ALICE, PEER_ID, "class", 4, False, True), Member(1, BOB, PEER_ID, "class", 4, False, True)),
        (((0, 8),), ((8, 16),)),
        16,
        (),
        4,
        20,
        10,
    ),
    Seal(
        "seal",
        0,
        (Committed(0, ALICE, 4, 8, 2, "3" * 64, "4" * 64, "class", "1", 0, SIGNATURE),),
        (Reason(1, "no commitment arrived before the deadline"),),
        "5" * 64,
        7,
    ),
    Assign("assign", 0, 0, (0,), (), (), (Reducer(0, 0, 0),)),
    Result(
        "result", 0, (ChunkResult(0, 0, 0, (0,), "6" * 64),), (Reduction(0, 0, (0,), SIGNATURE),), 4, 16, ((8, 16),)
    ),
    Close("close", 0, NEXT, (Report(ALICE, SIGNATURE),), ()),
    Verdict("verdict", 0, "7" * 64, "0x" + "e" * 64, (Judged(0, ALICE, True, True, "equal"),)),
    Finish("finish", 1, NEXT),
)


def chain_of(*bodies: Body, job: str = JOB) -> list[Record]:
    """A hash chain with these bodies."""
    records: list[Record] = []
    for body in bodies:
        records.append(Record(job, len(records), records[-1].hash if records else GENESIS, body))
    return records


def signed(record: Record, name: str = "coordinator", domain: SigningDomain = DOMAIN) -> SignedRecord:
    """The record with this key's signature."""
    return SignedRecord(record, sign(key(name), domain, statement(record.job, record)))


def signed_chain(*bodies: Body, job: str = JOB) -> list[SignedRecord]:
    return [signed(record) for record in chain_of(*(bodies or BODIES), job=job)]
