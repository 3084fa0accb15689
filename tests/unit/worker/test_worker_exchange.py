"""Chunks go from a sender to a reducer, with the manifest that they are checked against in the first batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from round_actors import ALICE, BOB, BODIES, DOMAIN, JOB, key

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.effects import Deliver, Reduce
from anynode.rounds.messages import RECEIPTS_MAX
from anynode.training.messages import ReduceSpec
from anynode.worker.exchange import (
    DELIVERIES_PER_PEER,
    MANIFEST_ALONG_BYTES_MAX,
    Exchange,
    cut_delivery,
    split_delivery,
)
from anynode.worker.link import DELIVERY
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, UnreachableError

CHUNKS = (b"the first chunk", b"the second", b"the third")


class Line:
    """A sender's line to one reducer, which has no line of its own: it can fetch nothing."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        self.broken = False
        self.hangs = asyncio.Event()
        self.hanging = 0
        self.to: Exchange
        self.seal: Seal
        self.opened: Open

    async def call(self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
        assert name == DELIVERY
        _, delivery, manifest, data = split_delivery(request)
        self.taken.append((delivery.chunks[0], len(manifest)))
        if self.broken:
            raise UnreachableError("the line is cut; try again")
        if self.hanging:
            self.hanging -= 1
            self.hangs.set()
            await asyncio.Event().wait()
        await self.to.accept(delivery, data, self.opened, self.seal, manifest)
        return self.to.receipt(delivery)

    @contextmanager
    def blaming(self, peer_id: str) -> Iterator[None]:
        yield


def exchange(name: str, line: Line | None, store: BlobStore) -> Exchange:
    return Exchange(JOB, peer=line, store=store, domain=DOMAIN, account=key(name), reductions=None)  # type: ignore[arg-type]


@pytest.fixture
def sent(tmp_path: Path) -> tuple[Exchange, Line, Manifest, BlobStore]:
    """Alice, who has an update, her line to Bob, the update's manifest, and Bob's store."""
    line, stores = Line(), [BlobStore(tmp_path / name) for name in ("alice", "bob")]
    manifest = Manifest("update", {}, tuple(ChunkRef(stores[0].put(chunk), len(chunk)) for chunk in CHUNKS))
    root = stores[0].put_manifest(manifest)
    opened, seal = BODIES[1], BODIES[2]
    assert isinstance(opened, Open)
    assert isinstance(seal, Seal)
    line.opened, line.seal = opened, replace(seal, commitments=(replace(seal.commitments[0], update_root=root),))
    line.to = exchange("bob", None, stores[1])
    return exchange("alice", line, stores[0]), line, manifest, stores[1]


def order(manifest: Manifest, chunk: int) -> Deliver:
    return Deliver(0, 0, 0, 1, (chunk,), manifest.root, 1)


async def test_the_first_batch_brings_the_manifest_and_the_others_do_not(
    sent: tuple[Exchange, Line, Manifest, BlobStore],
) -> None:
    alice, line, manifest, store = sent
    for chunk in range(len(CHUNKS)):
        receipt = await alice.deliver(order(manifest, chunk), line.opened)
        assert (receipt.node, receipt.chunks) == (BOB, (chunk,))
    assert line.taken == [(0, len(manifest.to_bytes())), (1, 0), (2, 0)]
    assert store.manifest(manifest.root, "update") == manifest, "auditors may ask for it"
    assert [store.get(hash_hex(chunk)) for chunk in CHUNKS] == list(CHUNKS)


async def test_a_batch_that_did_not_arrive_has_brought_nothing(
    sent: tuple[Exchange, Line, Manifest, BlobStore],
) -> None:
    alice, line, manifest, _ = sent
    line.broken = True
    with pytest.raises(UnreachableError):
        await alice.deliver(order(manifest, 0), line.opened)
    line.broken = False
    await alice.deliver(order(manifest, 1), line.opened)
    assert [bool(size) for _, size in line.taken] == [True, True]


async def test_a_delivery_that_hangs_ends_with_its_round_and_leaves_its_turn_to_the_next(
    sent: tuple[Exchange, Line, Manifest, BlobStore],
) -> None:
    alice, line, manifest, _ = sent
    line.hanging = DELIVERIES_PER_PEER
    one_waits = DELIVERIES_PER_PEER + 1
    hanging = [asyncio.create_task(alice.deliver(order(manifest, 0), line.opened)) for _ in range(one_waits)]
    while line.hanging:
        line.hangs.clear()
        await line.hangs.wait()
    alice.forget()
    for task in hanging:
        with pytest.raises(UnreachableError, match="is over"):
            await task
    receipt = await alice.deliver(order(manifest, 2), line.opened)
    assert receipt.chunks == (2,)


async def test_on_a_slow_line_a_batch_goes_in_pieces(sent: tuple[Exchange, Line, Manifest, BlobStore]) -> None:
    alice, line, manifest, _ = sent
    batch = replace(order(manifest, 0), chunks=(0, 1, 2))
    assert await alice.pieces(batch, line.opened) == [batch], "nothing is known of the line yet"
    await alice.deliver(order(manifest, 0), line.opened)
    assert [piece.chunks for piece in cut_delivery(batch, 2.9, 3)] == [(0, 1), (2,)]
    assert [piece.chunks for piece in cut_delivery(batch, 0.1, 3)] == [(0,), (1,), (2,)]
    assert [piece.chunks for piece in cut_delivery(batch, 0.1, 2 * RECEIPTS_MAX)] == [(0, 1), (2,)], (
        "one claim holds all"
    )


async def test_another_manifest_than_was_committed_to_is_a_breach(
    sent: tuple[Exchange, Line, Manifest, BlobStore],
) -> None:
    alice, line, manifest, store = sent
    other = Manifest("update", {}, (ChunkRef(hash_hex(b"false"), 5),)).to_bytes()
    delivery = await alice.payload(order(manifest, 0), line.opened)
    assert delivery.node == ALICE
    with pytest.raises(BreachError, match="does not hash"):
        await line.to.accept(delivery, memoryview(CHUNKS[0]), line.opened, line.seal, other)
    assert not store.has(hash_hex(CHUNKS[0]))


def test_a_delivery_that_claims_a_longer_manifest_than_is_allowed_is_a_breach() -> None:
    lengths = (0).to_bytes(4, "big") + (MANIFEST_ALONG_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(BreachError, match="malformed header"):
        split_delivery(JOB.encode() + lengths + bytes(MANIFEST_ALONG_BYTES_MAX + 1))


async def test_what_a_reducer_averages_is_durable_before_it_says_so(
    sent: tuple[Exchange, Line, Manifest, BlobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audits ask for it: after a power cut it must not look as if it were withheld."""
    alice, line, manifest, store = sent
    await alice.deliver(order(manifest, 1), line.opened)
    durable: list[str] = []
    monkeypatch.setattr(store, "sync", durable.extend)

    class Averaging:
        async def average(self, spec: ReduceSpec) -> str:
            return "a" * 64

    bob = Exchange(JOB, peer=None, store=store, domain=DOMAIN, account=key("bob"), reductions=Averaging())  # type: ignore[arg-type]
    assign = BODIES[3]
    assert isinstance(assign, Assign)
    reduced = await bob.reduce(Reduce(line.opened, line.seal, assign, 1, (0,)))
    assert reduced.result == "a" * 64
    assert durable == [hash_hex(CHUNKS[1]), manifest.root]
