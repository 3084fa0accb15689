"""Commit A, average B."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from attack import Attack, Expect, Finding
from lines import Lines
from round_actors import ALICE, BODIES, DOMAIN, JOB, PEER_ID, key

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds.course import Open, Seal
from anynode.rounds.messages import Delivery
from anynode.swarm.blob_exchange import BLOB, serve_blobs
from anynode.worker.exchange import Exchange
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, UserError

ATTACK = Attack(
    "commit A, average B",
    "A member commits to one update, which would pass an audit, and delivers another one to the reducers.",
    "prevented",
)
TRUE, FALSE = b"the update that was committed to", b"the update that is to be averaged"


def manifest_of(data: bytes) -> Manifest:
    return Manifest("update", {}, (ChunkRef(hash_hex(data), len(data)),))


@dataclass
class Reducer:
    """The exchange of a reducer that knows of the sealed update no more than its root, and its line to the sender."""

    exchange: Exchange
    store: BlobStore
    lines: Lines
    opened: Open
    seal: Seal

    @classmethod
    def at(cls, folder: Path) -> Reducer:
        store, lines = BlobStore(folder / "reducer"), Lines()
        peer = cast(Any, lines.at("reducer"))
        nothing = cast(Any, None)
        exchange = Exchange(JOB, peer=peer, store=store, domain=DOMAIN, account=key("bob"), reductions=nothing)
        opened, sealed = BODIES[1], BODIES[2]
        assert isinstance(opened, Open) and isinstance(sealed, Seal)
        committed = replace(sealed.commitments[0], update_root=manifest_of(TRUE).root)
        return cls(exchange, store, lines, opened, replace(sealed, commitments=(committed,)))

    async def take(self, told: bytes, sent: bytes, manifest: bytes = b"") -> None:
        """A delivery arrives: its header names the chunk ``told``, the chunk ``sent`` follows."""
        header = Delivery("delivery", ALICE, 0, 0, 0, 1, (0,), (hash_hex(told),))
        await self.exchange.accept(header, memoryview(sent), self.opened, self.seal, manifest)

    def holds_nothing_false(self) -> bool:
        return not self.store.has(hash_hex(FALSE)) and not self.store.has(manifest_of(FALSE).root)


@pytest.fixture
def reducer(tmp_path: Path) -> Reducer:
    return Reducer.at(tmp_path)


def test_a_reducer_takes_only_what_was_committed_to(reducer: Reducer, tmp_path: Path, expect: Expect) -> None:
    """The sender shows the true manifest when it is asked for it."""
    sender = BlobStore(tmp_path / "sender")
    sender.put_manifest(manifest_of(TRUE))

    async def deliver() -> None:
        await serve_blobs(reducer.lines.at(PEER_ID), sender, allow=lambda _, __: True)
        for told, sent in ((FALSE, FALSE), (TRUE, FALSE), (TRUE, FALSE[: len(TRUE)]), (FALSE, TRUE)):
            with pytest.raises(BreachError):
                await reducer.take(told, sent)
            assert reducer.holds_nothing_false()
        await reducer.take(TRUE, TRUE)

    asyncio.run(deliver())
    assert reducer.store.get(hash_hex(TRUE)) == TRUE
    expect(Finding("prevented", "each chunk is hashed against the committed manifest before it is used"))


def test_nor_with_a_manifest_of_another_update_along(reducer: Reducer) -> None:
    """It comes with the first batch, and names what is delivered."""

    async def deliver() -> None:
        with pytest.raises(BreachError):
            await reducer.take(FALSE, FALSE, manifest_of(FALSE).to_bytes())
        assert reducer.holds_nothing_false()
        await reducer.take(TRUE, TRUE, manifest_of(TRUE).to_bytes())

    asyncio.run(deliver())
    assert reducer.store.get(hash_hex(TRUE)) == TRUE


def test_nor_with_a_manifest_of_another_update_when_it_is_asked(reducer: Reducer) -> None:
    async def lies(_: str, __: bytes) -> bytes:
        return manifest_of(FALSE).to_bytes()

    async def deliver() -> None:
        await reducer.lines.at(PEER_ID).serve(BLOB, lies)
        for told, sent in ((FALSE, FALSE), (TRUE, FALSE), (TRUE, TRUE)):
            with pytest.raises(UserError):
                await reducer.take(told, sent)
            assert reducer.holds_nothing_false()

    asyncio.run(deliver())
    assert set(reducer.lines.blamed) == {PEER_ID}
