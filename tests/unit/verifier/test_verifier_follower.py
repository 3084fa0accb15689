"""A verifier that follows: its reader can be tried on a record, and it knows where the other verifiers are."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError
from signed_world import DOMAIN, SignedWorld
from sqlalchemy import insert
from web3 import Web3

import unasked_network
from anynode.blobs.store import BlobStore
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Assign, Close, Finish, Open, Result
from anynode.rounds.effects import Replay
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Outcome, Verdict
from anynode.rounds.records import Record
from anynode.swarm.payloads import SILENT_S
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.networks import Network
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.chain_log import Header, keep_block, mark_posted
from anynode_ledger.lapsing import note_deadline
from anynode_verifier.follower import Follower
from anynode_verifier.lineage import Reader
from anynode_verifier.others import other_verifiers
from anynode_verifier.stakes import Stakes

ADDRESSES = tuple(f"0x{number:040d}" for number in range(1, 5))
NETWORK = unasked_network.NETWORK.model_copy(
    update={
        "verifiers": ADDRESSES,
        "initial_peers": tuple(f"/ip4/127.0.0.1/tcp/{4000 + place}/p2p/Peer{place}" for place in range(4)),
    }
)


def test_a_reader_is_tried_on_a_record_without_harm(grown: SignedWorld) -> None:
    """Whether it takes the record or refuses it, the reader that was forked has read no further."""
    reader = Reader(grown.job, DOMAIN)
    for record in grown.records:
        if isinstance(record.body, Close):
            wrong = replace(record, body=replace(record.body, round=record.body.round + 1))
            with pytest.raises(RefusedError):
                reader.fork().take(wrong)
        before = (len(reader.lineage.rounds), len(reader.lineage.verdicts), dict(reader.standings))
        trial = reader.fork()
        trial.take(record)
        assert (len(reader.lineage.rounds), len(reader.lineage.verdicts), dict(reader.standings)) == before
        reader = trial
    assert len(reader.lineage.rounds) == grown.rules.rounds
    assert reader.finished


def test_a_job_that_ended_on_the_chain_ends_before_its_last_round(grown: SignedWorld) -> None:
    reader = Reader(grown.job, DOMAIN)
    place = next(place for place, r in enumerate(grown.records) if isinstance(r.body, Open) and r.body.round == 2)
    for record in grown.records[:place]:
        reader.take(record)
    opened = grown.records[place]
    assert isinstance(opened.body, Open)
    reader.take(replace(opened, body=Finish("finish", 2, opened.body.state_root, ended=True)))
    assert reader.finished


def test_whether_a_job_is_over_is_read_from_final_blocks(tmp_path: Path) -> None:
    book = Book.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    stakes = Stakes(book, "1" * 64, 31337)
    assert not stakes.ended(), "the job is not there"
    with book.write() as journal:
        note_deadline(journal, "1" * 64, 1_000)
        for number, timestamp_s in ((1, 999), (2, 1_000)):
            header = Header(number, f"{number:064x}", f"{number - 1:064x}", timestamp_s)
            keep_block(journal, Web3(), 31337, header, [])
        mark_posted(journal, 31337, Header(1, f"{1:064x}", f"{0:064x}", 999))
    assert not stakes.ended()
    with book.write() as journal:
        mark_posted(journal, 31337, Header(2, f"{2:064x}", f"{1:064x}", 1_000))
    assert stakes.ended() and not stakes.ended(1)
    with book.write() as journal:
        note_deadline(journal, "1" * 64, 940)  # cancelled
    assert stakes.ended(60)
    book.close()


def test_whether_a_job_is_closed_is_read_from_the_ledger_or_the_chain(tmp_path: Path) -> None:
    """Only the verifier that settles has the decision; the others see the escrow's last word."""
    book = Book.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    settler, follower = Stakes(book, "1" * 64, 31337), Stakes(book, "2" * 64, 31337)
    assert not settler.closed() and not follower.closed()
    book.close_job("1" * 64)
    assert settler.closed() and not follower.closed()
    found = {"chain_id": 31337, "block_hash": "a" * 64, "log_index": 0, "block_number": 1, "contract": f"0x{903:040d}"}
    topics = json.dumps(["b" * 64, "2" * 64])
    rest = {"name": "JobFinalised", "transaction_hash": "c" * 64, "topics": topics, "data": "", "timestamp_s": 1}
    with book.write() as journal:
        journal.connection.execute(insert(schema.chain_events).values(**found, **rest))
    assert follower.closed() and not Stakes(book, "3" * 64, 31337).closed()
    book.close()


class Replays:
    """A replayer that finds this work wrong, as the others do or as nobody does, and the rest as it should be."""

    def __init__(self, *wrong: tuple[int, int]) -> None:
        self.wrong = wrong

    async def replay(self, effect: Replay) -> Replayed:
        is_wrong = (effect.open.round, effect.slot) in self.wrong
        outcome: Outcome = "rejected" if is_wrong else "accepted"
        return Replayed(effect.open.round, effect.slot, outcome, "exact", "as replayed", effect.again)


def follower(
    world: SignedWorld, folder: Path, until: Record, *wrong: tuple[int, int], draws: bool = False, **ends: Any
) -> Follower:
    """One that has read the chain until this record, and is in need of no state but what is named there. ``ends``: what
    it is given to reach others and to compute.
    """
    nothing: Any = None
    assert isinstance(until.body, Assign | Result | Verdict)
    opened = [item.body for item in world.records if isinstance(item.body, Open)]
    known = next(body for body in opened if body.round == until.body.round)
    given: dict[str, Any] = {"start_root": known.state_root, "store": BlobStore(folder), "peer": nothing, "keeper": str}
    given |= ends
    found = Follower(
        world.job,
        DOMAIN,
        home=nothing,
        trainers=nothing,
        replayer=cast(Any, Replays(*wrong)),
        draws=lambda _, __: draws,
        chunk_auditor=nothing,
        averager=nothing,
        blocks=nothing,
        ask_sealer=nothing,
        claims_of=lambda _: {},
        sources=list,
        has_ended=lambda: False,
        **given,
    )
    for record in world.records[: until.height]:
        found.take(record)
    return found


async def test_an_admission_is_signed_where_its_replays_agree(grown: SignedWorld, tmp_path: Path) -> None:
    """Also by a follower whose own draw names nothing."""
    record = next(item for item in grown.records if isinstance(item.body, Assign))
    assert isinstance(record.body, Assign)
    cheats = [(0, reason.slot) for reason in record.body.rejected]
    assert cheats and record.body.accepted
    honest = follower(grown, tmp_path, record, *cheats, draws=False)
    assert await honest.follows(record, holder="", prepared=True)
    for slot in record.body.accepted:
        unlike = follower(grown, tmp_path, record, *cheats, (0, slot), draws=False)
        assert not await unlike.follows(record, holder="", prepared=True)


async def test_a_verdict_is_signed_where_the_replays_of_what_is_drawn_agree(grown: SignedWorld, tmp_path: Path) -> None:
    record, item = next(
        (record, item)
        for record in grown.records
        if isinstance(record.body, Verdict)
        for item in record.body.judged
        if (item.outcome, item.evidence) == ("accepted", "exact")
    )
    assert isinstance(record.body, Verdict)
    cheats = [(record.body.round, other.slot) for other in record.body.judged if other.rejected]
    false = (record.body.round, item.slot)
    for drawn, wrong, signed in ((True, (), True), (True, (false,), False), (False, (false,), True)):
        reader = follower(grown, tmp_path, record, *cheats, *wrong, draws=drawn)
        assert await reader.follows(record, holder="", prepared=True) is signed


class OnlyHolder:
    """Reducers that give their averages to the verifier on duty alone: who else asks them waits until it has them."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.silences = set[float | None]()

    async def call(self, peer_id: str, name: str, request: bytes, *_: Any, silent_s: float | None = None) -> bytes:
        self.silences.add(silent_s)
        if peer_id != "holder":
            await self.asked.wait()
            raise UnreachableError("it does not answer; try again")
        self.asked.set()
        digests = [request[start : start + 64].decode() for start in range(0, len(request), 64)]
        return b"".join(struct.pack(">I", len(AVERAGES[digest])) + AVERAGES[digest] for digest in digests)

    @contextmanager
    def blaming(self, _: str) -> Iterator[None]:
        yield


AVERAGES = {hash_hex(data): data for data in (f"average {number}".encode() for number in range(8))}


async def test_averages_come_from_the_holder_while_their_reducers_are_silent(
    grown: SignedWorld, tmp_path: Path
) -> None:
    """Whatever a reducer gives to whom: the holder of the duty has all that it proposes."""
    record = next(item for item in grown.records if isinstance(item.body, Result) and item.body.chunks)
    assert isinstance(record.body, Result)
    entries = [replace(record.body.chunks[0], result=digest) for digest in AVERAGES]
    store, peer = BlobStore(tmp_path), OnlyHolder()
    opened = next(item.body for item in grown.records if isinstance(item.body, Open))
    following = follower(grown, tmp_path, record, store=store, peer=peer, keeper=lambda: "holder")
    async with asyncio.timeout(60):
        await following.fetch_averages(opened, entries)
    assert all(store.has(digest) for digest in AVERAGES)
    assert peer.silences == {SILENT_S}


async def test_a_rejection_is_replayed_when_the_state_of_its_round_is_here(
    grown: SignedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that was off meanwhile fetches it; where nobody gives it now, it asks again when it is asked again."""
    record, cheats = next(
        (record, cheats)
        for record in grown.records
        if isinstance(record.body, Verdict) and record.body.round > 0
        if (cheats := [(record.body.round, item.slot) for item in record.body.judged if item.rejected])
    )
    silent = [True]

    async def fetch_state(*_: Any) -> None:
        if silent:
            silent.clear()
            raise UnreachableError("no peer is left that can give the state")

    monkeypatch.setattr("anynode_verifier.follower.fetch_state", fetch_state)
    reader = follower(grown, tmp_path, record, *cheats, start_root="")
    assert not await reader.follows(record, holder="", prepared=True)
    assert await reader.follows(record, holder="", prepared=True)


def test_verifiers_and_initial_peers_stand_in_one_order() -> None:
    others = other_verifiers(NETWORK, ADDRESSES[1])
    assert others == {ADDRESSES[0]: "Peer0", ADDRESSES[2]: "Peer2", ADDRESSES[3]: "Peer3"}


@pytest.mark.parametrize(("quorum", "needed"), [(0, 3), (3, 3), (4, 4)])
def test_a_network_names_its_quorum_or_more_than_half_is_one(quorum: int, needed: int) -> None:
    known = Network.model_validate(NETWORK.model_dump() | {"quorum": quorum})
    assert Verifiers.of(known) == Verifiers(ADDRESSES, needed)


@pytest.mark.parametrize("quorum", [1, 2, 5])
def test_a_quorum_of_half_or_of_more_than_all_is_refused(quorum: int) -> None:
    with pytest.raises(ValidationError, match="more than half"):
        Network.model_validate(NETWORK.model_dump() | {"quorum": quorum})
