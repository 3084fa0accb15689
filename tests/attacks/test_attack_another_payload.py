"""Commit A, average B."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from attack import Attack, Expect, Finding
from round_actors import ALICE, BODIES, DOMAIN, JOB, key

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds.course import Open, Seal
from anynode.rounds.messages import Delivery
from anynode.worker.exchange import Exchange
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError

ATTACK = Attack(
    "commit A, average B",
    "A member commits to one update, which would pass an audit, and delivers another one to the reducers.",
    "prevented",
)
TRUE, FALSE = b"the update that was committed to", b"the update that is to be averaged"


@pytest.fixture
def reducer(tmp_path: Path) -> tuple[Exchange, BlobStore]:
    """The exchange of a reducer that has the manifest of the sealed update. It needs no line for a check."""
    store = BlobStore(tmp_path / "blobs")
    exchange = Exchange(
        JOB,
        peer=None,  # type: ignore[arg-type]
        store=store,
        domain=DOMAIN,
        account=key("bob"),
        reductions=None,  # type: ignore[arg-type]
    )
    return exchange, store


def test_a_reducer_takes_only_what_was_committed_to(reducer: tuple[Exchange, BlobStore], expect: Expect) -> None:
    exchange, store = reducer
    opened, sealed = BODIES[1], BODIES[2]
    assert isinstance(opened, Open) and isinstance(sealed, Seal)
    root = store.put_manifest(Manifest("update", {}, (ChunkRef(hash_hex(TRUE), len(TRUE)),)))
    seal = replace(sealed, commitments=(replace(sealed.commitments[0], update_root=root),))

    def deliver(told: bytes, sent: bytes) -> None:
        header = Delivery("delivery", ALICE, 0, 0, 0, 1, (0,), (hash_hex(told),))
        asyncio.run(exchange.accept(header, memoryview(sent), opened, seal))

    for told, sent in ((FALSE, FALSE), (TRUE, FALSE), (TRUE, FALSE[: len(TRUE)]), (FALSE, TRUE)):
        with pytest.raises(BreachError):
            deliver(told, sent)
        assert not store.has(hash_hex(FALSE))
    deliver(TRUE, TRUE)
    assert store.get(hash_hex(TRUE)) == TRUE
    expect(Finding("prevented", "each chunk is hashed against the committed manifest before it is used"))
