"""A verifier that follows: its reader can be tried on a record, and it knows where the other verifiers are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from signed_world import DOMAIN, SignedWorld
from web3 import Web3

import unasked_network
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Close, Finish, Open
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.chain_log import Header, keep_block, mark_posted
from anynode_ledger.lapsing import note_deadline
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
