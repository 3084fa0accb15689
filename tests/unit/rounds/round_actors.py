"""Who takes part in these tests, and the bodies of a small round, valid in every field."""

from __future__ import annotations

from functools import cache

from blake3 import blake3
from eth_account import Account
from eth_account.signers.local import LocalAccount

from anynode.rounds.course import (
    Assign,
    Begin,
    ChunkResult,
    Close,
    Committed,
    Finish,
    Member,
    Open,
    Reason,
    Reducer,
    Reduction,
    Report,
    Result,
    Seal,
)
from anynode.rounds.judgements import Claimed, Judged, ReductionJudged, Verdict
from anynode.rounds.messages import PROTOCOL
from anynode.rounds.records import GENESIS, Body, Record, SignedRecord
from anynode.rounds.statements import statement
from anynode.rounds.votes import Vote
from anynode.rounds.words import nothing_of
from anynode_contracts.signing import SigningDomain, sign

JOB, OTHER_JOB = "a" * 64, "b" * 64
DOMAIN = SigningDomain(31337, f"0x{902:040d}")
PEER_ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
START, NEXT = "1" * 64, "2" * 64
SIGNATURE = "0x" + "5" * 130
SECRET = "7" * 64
SECRET_HASH = blake3(bytes.fromhex(SECRET)).hexdigest()


@cache
def key(name: str) -> LocalAccount:
    """The key of this name, always the same."""
    account: LocalAccount = Account.from_key(blake3(name.encode()).digest())
    return account


ALICE, BOB, COORDINATOR = key("alice").address, key("bob").address, key("coordinator").address

BODIES: tuple[Body, ...] = (
    Begin("begin", PROTOCOL, START),
    Open(
        "open",
        0,
        START,
        "0x" + "e" * 64,
        True,
        (
            Member(0, ALICE, PEER_ID, "class", 4, False, True, False, ""),
            Member(1, BOB, PEER_ID, "class", 4, False, True, True, BOB),
        ),
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
        SECRET_HASH,
        7,
        (1_000_000,),
        COORDINATOR,
        (sign(key("coordinator"), DOMAIN, statement(JOB, nothing_of(0, 1))),),
    ),
    Assign("assign", 0, 0, (0,), (), (), (), (Reducer(0, 0, 0),), ()),
    Result(
        "result", 0, (ChunkResult(0, 0, 0, (0,), "6" * 64),), (Reduction(0, 0, (0,), SIGNATURE),), 4, 16, ((8, 16),)
    ),
    Close("close", 0, NEXT, (Report(ALICE, SIGNATURE),), ()),
    Verdict(
        "verdict",
        0,
        SECRET,
        "0x" + "e" * 64,
        (Judged(0, ALICE, "accepted", "admission", "equal"),),
        (ReductionJudged(0, 0, ALICE, "void", "gone"),),
        (),
        (Claimed(0, 1, 1, 0, (0, 3), (NEXT, START), (3,), SIGNATURE),),
    ),
    Finish("finish", 1, NEXT, ended=False),
)


def chain_of(*bodies: Body, job: str = JOB) -> list[Record]:
    """A hash chain with these bodies."""
    records: list[Record] = []
    for body in bodies:
        records.append(Record(job, len(records), records[-1].hash if records else GENESIS, body))
    return records


def signed(record: Record, name: str = "coordinator", domain: SigningDomain = DOMAIN) -> SignedRecord:
    """The record with this key's signature."""
    vote = Vote(record.height, 0, "certify", record.hash)
    return SignedRecord(record, 0, (sign(key(name), domain, statement(record.job, vote)),))


def signed_chain(*bodies: Body, job: str = JOB) -> list[SignedRecord]:
    return [signed(record) for record in chain_of(*(bodies or BODIES), job=job)]
