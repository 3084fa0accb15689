"""Peers that send rubbish get strikes, are dropped for a while and named; honest ones with a few faults are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from swarm_peers import StartPeer

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.rounds import wire
from anynode.rounds.messages import PROTOCOL
from anynode.swarm.blob_exchange import BLOB, fetch_blob, serve_blobs
from anynode.swarm.control import close_stream
from anynode.swarm.frames import HEADER, Code, Kind, PeerRefusedError
from anynode.swarm.limits import Rate
from anynode.swarm.payloads import CHUNKS, fetch_payloads, serve_payloads
from anynode.swarm.peer import Peer
from anynode.swarm.strikes import Dropped, StrikeRules, Strikes
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError, UnreachableError

RULES = StrikeRules(limit=3, forgiven_every_s=60.0, dropped_s=600.0)


class Clock:
    """Time that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_too_many_strikes_at_a_time_drop_a_peer_for_a_while() -> None:
    clock = Clock()
    table = Strikes(RULES, clock)
    assert [table.strike("a", Offence.FRAME, "x") for _ in range(2)] == [None, None]
    assert table.dropped("a") is None
    assert table.strike("a", Offence.HASH, "wrong bytes") == Dropped("a", Offence.HASH, "wrong bytes", 1600.0)
    assert table.strike("a", Offence.FRAME, "x") is None  # it is dropped already
    assert [drop.peer_id for drop in table.all_dropped()] == ["a"]
    clock.now_s = 1600.0
    assert table.dropped("a") is None and table.all_dropped() == ()
    assert table.strike("a", Offence.FRAME, "x") is None  # it begins anew


def test_strikes_are_forgiven_with_time() -> None:
    """One fault every minute for a day drops nobody; three within a minute do."""
    clock = Clock()
    table = Strikes(RULES, clock)
    for _ in range(1440):
        assert table.strike("a", Offence.SCHEMA, "x") is None
        clock.now_s += 60.0
    assert table.strike("a", Offence.SCHEMA, "x") is None
    assert table.strike("a", Offence.SCHEMA, "x") is None
    assert table.strike("a", Offence.SCHEMA, "x") is not None


def test_the_table_is_bounded_and_strangers_do_not_free_a_dropped_peer() -> None:
    rules = StrikeRules(limit=2, peers_max=3)
    table = Strikes(rules, Clock())
    for _ in range(2):
        table.strike("bad", Offence.HASH, "x")
    for number in range(100):
        assert table.strike(f"stranger {number}", Offence.FRAME, "x") is None
    assert table.dropped("bad") is not None
    assert table.strike("stranger 0", Offence.FRAME, "x") is None  # forgotten: this is its first again
    for number in range(10):
        for _ in range(2):
            table.strike(f"worse {number}", Offence.FRAME, "x")
    assert len(table.all_dropped()) == 3


async def reverse(peer_id: str, request: bytes) -> bytes:
    return request[::-1]


async def parse(peer_id: str, request: bytes) -> bytes:
    wire.parse_delivery_receipt(request)
    return b"fine"


async def send(peer: Peer, to: Peer, raw: bytes, name: str) -> bytes:
    """Raw bytes on a stream to a service; what comes back until the other side ends it."""
    reader, writer = await peer._control.open_stream(to.peer_id, f"anynode/{peer._hello.protocols[0]}/{name}")
    try:
        writer.write(raw)
        async with asyncio.timeout(30):
            header = await reader.read(HEADER.size)
            return header and await reader.read(1000)
    finally:
        await close_stream(writer)


@pytest.mark.parametrize(
    ("offence", "name", "raw"),
    [
        (Offence.FRAME, "reverse", HEADER.pack(77, 3) + b"abc"),
        (Offence.OVERSIZE, "reverse", HEADER.pack(Kind.REQUEST, 1 << 24)),
        (Offence.SCHEMA, "parse", HEADER.pack(Kind.REQUEST, 3) + bytes([PROTOCOL]) + b"{}"),
    ],
)
async def test_who_sends_rubbish_is_dropped_and_named(
    start_peer: StartPeer, offence: Offence, name: str, raw: bytes
) -> None:
    clock = Clock()
    server = await start_peer("server", clock=clock, strike_rules=RULES)
    rude, honest = await start_peer("rude", *server.addresses), await start_peer("honest", *server.addresses)
    await server.serve("reverse", reverse, limit_bytes=1000)
    await server.serve("parse", parse, limit_bytes=1000)
    told: list[Dropped] = []
    server.conduct.on_drop = told.append

    for _ in range(RULES.limit):
        assert b"sentence" in await send(rude, server, raw, name)
    (drop,) = told
    assert (drop.peer_id, drop.offence) == (rude.peer_id, offence)
    assert [(item.peer_id, left_s) for item, left_s in server.conduct.dropped()] == [(rude.peer_id, 600.0)]

    assert await send(rude, server, HEADER.pack(Kind.REQUEST, 2) + b"ab", "reverse") == b""
    with pytest.raises(UnreachableError):
        await rude.call(server.peer_id, "reverse", b"ab")
    await rude.serve("reverse", reverse, limit_bytes=10)
    with pytest.raises(PeerRefusedError, match=f"is dropped for another 600 s, for it kept sending {offence}") as no:
        await server.call(rude.peer_id, "reverse", b"ab")  # nothing of it is used either
    assert no.value.code == Code.DROPPED
    assert await honest.call(server.peer_id, "reverse", b"ab") == b"ba"
    clock.now_s += RULES.dropped_s
    assert await rude.call(server.peer_id, "reverse", b"ab") == b"ba"


async def test_an_answer_that_is_none_counts_too(start_peer: StartPeer) -> None:
    liar = await start_peer("liar")
    client = await start_peer("client", *liar.addresses, strike_rules=RULES)

    async def answer(peer_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(HEADER.pack(99, 0))
        await reader.read(100)

    await liar.serve("reverse", reverse, limit_bytes=10)
    liar._acceptor.handle(f"anynode/{liar._hello.protocols[0]}/reverse", answer)
    for _ in range(RULES.limit):
        with pytest.raises(PeerRefusedError, match="holds no frame"):
            await client.call(liar.peer_id, "reverse", b"ab")
    assert client.conduct.is_dropped(liar.peer_id)


async def test_wrong_bytes_of_a_chunk_count_and_its_sender_is_not_asked_again(
    start_peer: StartPeer, tmp_path: Path
) -> None:
    liar = await start_peer("liar")
    honest = await start_peer("honest", *liar.addresses)
    client = await start_peer("client", *liar.addresses, strike_rules=RULES)
    chunks = [bytes([number]) * 1000 for number in range(6)]
    store = BlobStore(tmp_path / "honest-blobs")
    for chunk in chunks:
        store.put(chunk)
    await serve_blobs(honest, store, allow=lambda _, __: True)
    await serve_payloads(honest, store, allow=lambda _, __: True)
    asked = 0

    async def lie(peer_id: str, request: bytes) -> bytes:
        nonlocal asked
        asked += 1
        return (999).to_bytes(4, "big") + b"\0" * 999

    for name in (BLOB, CHUNKS):
        await liar.serve(name, lie, limit_bytes=1000)
    own = BlobStore(tmp_path / "own-blobs")
    for chunk in chunks[: RULES.limit]:
        await fetch_payloads(client, own, {hash_hex(chunk): liar.peer_id}, others=[honest.peer_id])
    assert asked == RULES.limit and client.conduct.is_dropped(liar.peer_id)
    manifest = Manifest("file", {}, tuple(ChunkRef(hash_hex(chunk), len(chunk)) for chunk in chunks))
    result = await fetch_blob(client, own, manifest, [liar.peer_id, honest.peer_id])
    assert result.bytes_by_source == {honest.peer_id: 3000}
    assert asked == RULES.limit


async def test_busy_absent_and_refusing_peers_get_no_strike(start_peer: StartPeer) -> None:
    """Nor does one that asks too often, calls what is not there, or is refused by a rule of the handler."""
    server = await start_peer("server", strike_rules=RULES)
    client = await start_peer("client", *server.addresses, strike_rules=RULES)

    async def refuse(peer_id: str, request: bytes) -> bytes:
        raise RefusedError("the round is over; send it in the next one")

    await server.serve("refuse", refuse, limit_bytes=10)
    await server.serve("seldom", reverse, limit_bytes=10, rate=Rate(per_s=0.001, burst=1))
    for name in ("refuse", "seldom", "none"):
        for _ in range(RULES.limit + 2):
            try:
                await client.call(server.peer_id, name, b"ab")
            except PeerRefusedError as error:
                assert error.code in (Code.REFUSED, Code.RATE_LIMITED, Code.NOT_SERVED)
    assert (server.conduct.strikes, client.conduct.strikes) == (0, 0)
    await server.close()
    with pytest.raises(UnreachableError):
        await client.call(server.peer_id, "seldom", b"ab")
    assert client.conduct.strikes == 0


async def test_a_breach_counts_once_and_against_who_sent_it(start_peer: StartPeer) -> None:
    """A handler that finds out that somebody else has lied blames that one, not its caller."""
    server = await start_peer("server", strike_rules=RULES)
    client = await start_peer("client", *server.addresses)

    async def ask_another(peer_id: str, request: bytes) -> bytes:
        with server.blaming("another"), server.blaming("a relay of it"):
            raise BreachError("it lied; ask another", Offence.SIGNATURE)

    await server.serve("ask", ask_another, limit_bytes=10)
    for _ in range(RULES.limit):
        with pytest.raises(RefusedError, match="it lied"):
            await client.call(server.peer_id, "ask", b"")
    assert server.conduct.strikes == RULES.limit
    assert [drop.peer_id for drop, _ in server.conduct.dropped()] == ["a relay of it"]
    assert await client.hello(server.peer_id)
