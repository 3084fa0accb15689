"""Two peers call each other: answers, refusals, limits, versions, and what is said when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from swarm_peers import StartPeer, daemon_pid

from anynode.rounds.messages import PROTOCOL
from anynode.swarm.control import Control
from anynode.swarm.frames import FRAME_BYTES_MAX, HEADER, Code, Kind, PeerRefusedError
from anynode.swarm.limits import Rate
from anynode_contracts.errors import RefusedError, UnreachableError, UserError

ONE_SENTENCE = re.compile(r"[^\n]{20,500}")


async def reverse(peer_id: str, request: bytes) -> bytes:
    return request[::-1]


async def test_peers_call_each_other_and_one_finds_another_by_its_id(start_peer: StartPeer) -> None:
    first = await start_peer("first")
    second = await start_peer("second", *first.addresses)
    third = await start_peer("third", *first.addresses)
    callers: list[str] = []

    async def who(peer_id: str, request: bytes) -> bytes:
        callers.append(peer_id)
        return request + peer_id.encode()

    for peer in (first, second, third):
        await peer.serve("who", who, limit_bytes=1 << 21)

    # second and third know only first's address: libp2p's own DHT tells them each other's.
    for caller, callee in ((first, second), (second, first), (second, third), (third, second), (third, third)):
        answer = await caller.call(callee.peer_id, "who", b"I am ", timeout_s=30, limit_bytes=1000)
        assert answer == b"I am " + caller.peer_id.encode()
    assert callers == [peer.peer_id for peer in (first, second, second, third, third)]
    assert second.peer_id in await first.connected_peers()

    request = bytes(range(256)) * (1 << 13)  # 2 MiB, both ways
    answer = await second.call(third.peer_id, "who", request, timeout_s=60, limit_bytes=(1 << 21) + 100)
    assert answer == request + second.peer_id.encode()


async def test_oversized_requests_and_answers_are_refused(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    await server.serve("reverse", reverse, limit_bytes=1000)

    assert await client.call(server.peer_id, "reverse", b"x" * 1000, 30, 1000) == b"x" * 1000
    for size in (1001, 3 << 20):
        with pytest.raises(PeerRefusedError, match=f"{size} bytes is over the limit of 1000") as refused:
            await client.call(server.peer_id, "reverse", b"x" * size, 30, 1000)
        assert refused.value.code == Code.TOO_LARGE
    with pytest.raises(PeerRefusedError, match="of 500 bytes is over the limit of 499") as refused:
        await client.call(server.peer_id, "reverse", b"x" * 500, 30, 499)
    assert refused.value.code == Code.TOO_LARGE
    assert refused.value.peer_id == server.peer_id


async def test_a_handlers_error_arrives_as_one_sentence(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)

    async def fail(peer_id: str, request: bytes) -> bytes:
        if request == b"user":
            raise UserError("the round is closed; wait for the next one")
        if request == b"long":
            raise RefusedError("x\x1b[31m\n" * 2000)
        if request == b"code":
            raise PeerRefusedError("come back later", code="not-yet", retry_after_s=2.5)
        raise RuntimeError("a secret of the server")

    await server.serve("fail", fail, limit_bytes=100)
    with pytest.raises(RefusedError, match=r"^the round is closed; wait for the next one$"):
        await client.call(server.peer_id, "fail", b"user")
    with pytest.raises(RefusedError) as refused:
        await client.call(server.peer_id, "fail", b"long")
    assert ONE_SENTENCE.fullmatch(str(refused.value)) and "\x1b" not in str(refused.value)
    with pytest.raises(PeerRefusedError) as later:
        await client.call(server.peer_id, "fail", b"code")
    assert (later.value.code, later.value.retry_after_s) == ("not-yet", 2.5)
    for caller in (client, server):  # a call to oneself is refused in the same words
        with pytest.raises(PeerRefusedError, match="failed over this fail request") as fault:
            await caller.call(server.peer_id, "fail", b"")
        assert fault.value.code == Code.FAULT
        assert "secret" not in str(fault.value)


async def test_a_peer_that_asks_too_often_is_refused_until_time_has_passed(start_peer: StartPeer) -> None:
    now_s = 100.0
    server = await start_peer("server", clock=lambda: now_s)
    eager, calm = await start_peer("eager", *server.addresses), await start_peer("calm", *server.addresses)
    await server.serve("reverse", reverse, limit_bytes=10, rate=Rate(per_s=0.5, burst=3))

    for _ in range(3):
        assert await eager.call(server.peer_id, "reverse", b"ab") == b"ba"
    with pytest.raises(PeerRefusedError, match="too many reverse requests") as refused:
        await eager.call(server.peer_id, "reverse", b"ab")
    assert (refused.value.code, refused.value.retry_after_s) == (Code.RATE_LIMITED, 2.0)
    assert await calm.call(server.peer_id, "reverse", b"cd") == b"dc"
    now_s += refused.value.retry_after_s
    assert await eager.call(server.peer_id, "reverse", b"ab") == b"ba"


async def test_a_handler_runs_for_few_at_a_time_and_a_full_queue_refuses(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    running, highest, started, release = 0, 0, asyncio.Semaphore(0), asyncio.Event()

    async def slow(peer_id: str, request: bytes) -> bytes:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        started.release()
        await release.wait()
        running -= 1
        return request

    await server.serve("slow", slow, limit_bytes=10, per_peer=2, waiting_max=3)
    calls = [asyncio.create_task(client.call(server.peer_id, "slow", b"%d" % i)) for i in range(6)]
    for _ in range(2):
        await started.acquire()
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)  # the sixth finds the queue full
    with pytest.raises(PeerRefusedError, match="send fewer at a time") as refused:
        await done.pop()
    assert refused.value.code == Code.BUSY
    release.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, bytes) for answer in answers) == 5
    assert highest == 2


async def test_requests_one_after_the_other_share_a_stream_and_survive_its_end(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    streams: set[asyncio.Task[None] | None] = set()

    async def note(peer_id: str, request: bytes) -> bytes:
        streams.add(asyncio.current_task())
        if request == b"no":
            raise RefusedError("this one is refused; send another")
        return request

    await server.serve("note", note, limit_bytes=10)
    for request in (b"a", b"bc", b"", b"d"):
        assert await client.call(server.peer_id, "note", request) == request
    assert len(streams) == 1
    with pytest.raises(RefusedError, match="this one is refused"):
        await client.call(server.peer_id, "note", b"no")
    assert await client.call(server.peer_id, "note", b"e") == b"e"
    assert len(streams) == 2
    for stream in streams - {None}:
        stream.cancel()  # the server's side of it breaks off while the client keeps it for later
    assert await client.call(server.peer_id, "note", b"f") == b"f"
    assert len(streams) == 3


async def test_timeouts_on_both_sides(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    never = asyncio.Event()

    async def hang(peer_id: str, request: bytes) -> bytes:
        await never.wait()
        return b""

    await server.serve("hang", hang, limit_bytes=10)
    await server.serve("hang-short", hang, limit_bytes=10, timeout_s=0.1)
    with pytest.raises(UnreachableError, match=r"did not answer .* within 0.1 s"):
        await client.call(server.peer_id, "hang", b"", timeout_s=0.1)
    with pytest.raises(PeerRefusedError, match=r"not done within 0.1 s") as refused:
        await client.call(server.peer_id, "hang-short", b"")
    assert refused.value.code == Code.TIMED_OUT


async def test_a_peer_of_another_version_or_network_or_task_is_told_so(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    newer = await start_peer("newer", protocol=PROTOCOL + 1)
    stranger = await start_peer("stranger", network="other")
    await newer.serve("reverse", reverse, limit_bytes=10)

    with pytest.raises(
        PeerRefusedError,
        match=f"speaks AnyNode protocol {PROTOCOL + 1}, this is {PROTOCOL}: update AnyNode on this node",
    ) as no:
        await server.connect(newer.addresses[0])
    assert no.value.code == Code.VERSION
    with pytest.raises(PeerRefusedError, match=f"speaks AnyNode protocol {PROTOCOL + 1}, this is {PROTOCOL}"):
        await server.call(newer.peer_id, "reverse", b"")
    with pytest.raises(
        PeerRefusedError,
        match=f"speaks AnyNode protocol {PROTOCOL}, this is {PROTOCOL + 1}: update AnyNode on that peer",
    ):
        await start_peer("newest", *server.addresses, protocol=PROTOCOL + 1)
    with pytest.raises(PeerRefusedError, match="belongs to network 'other', this is 'test'") as no:
        await server.connect(stranger.addresses[0])
    assert no.value.code == Code.NETWORK
    fellow = await start_peer("fellow", *server.addresses)
    with pytest.raises(PeerRefusedError, match="does not offer 'reverse'") as no:
        await fellow.call(server.peer_id, "reverse", b"")
    assert no.value.code == Code.NOT_SERVED


async def test_nobody_reachable_says_what_was_tried(start_peer: StartPeer) -> None:
    gone = await start_peer("gone")
    there = await start_peer("there", *gone.addresses)
    await gone.close()

    with pytest.raises(UnreachableError) as nobody:
        await start_peer("late", *gone.addresses)
    assert gone.addresses[0] in str(nobody.value) and "connection refused" in str(nobody.value)
    assert ONE_SENTENCE.fullmatch(str(nobody.value))
    with pytest.raises(UnreachableError, match="cannot be reached"):
        await there.call(gone.peer_id, "any", b"")
    with pytest.raises(UserError, match="is not a peer's address"):
        await start_peer("typo", "127.0.0.1:4001")
    wrong_identity = there.addresses[0].replace(there.peer_id, gone.peer_id)
    with pytest.raises(PeerRefusedError, match="another peer than") as other:
        await (await start_peer("asker")).connect(wrong_identity)
    assert other.value.code == Code.IDENTITY
    joined = await start_peer("joined", *gone.addresses, *there.addresses)  # one that answers is enough
    assert await joined.connected_peers() == (there.peer_id,)


async def test_malformed_streams_are_refused_and_harm_nobody(start_peer: StartPeer) -> None:
    server = await start_peer("server")
    client = await start_peer("client", *server.addresses)
    await server.serve("reverse", reverse, limit_bytes=10)
    control: Control = client._control

    async def send(raw: bytes) -> bytes:
        async with asyncio.timeout(30):
            reader, writer = await control.open_stream(server.peer_id, f"anynode/{PROTOCOL}/reverse")
            with contextlib.closing(writer.transport):
                writer.write(raw)
                kind, size = HEADER.unpack(await reader.readexactly(HEADER.size))
                assert kind == Kind.ERROR
                return await reader.readexactly(size)

    assert b'"malformed"' in await send(HEADER.pack(77, 3) + b"abc")
    assert b'"malformed"' in await send(HEADER.pack(Kind.ANSWER, 3) + b"abc")
    assert b'"too-large"' in await send(HEADER.pack(Kind.REQUEST, FRAME_BYTES_MAX))
    _, writer = await control.open_stream(server.peer_id, f"anynode/{PROTOCOL}/reverse")
    writer.write(b"\x01\x00")
    writer.close()  # and gone
    assert await client.call(server.peer_id, "reverse", b"ab") == b"ba"


async def test_the_end_of_the_own_daemon_is_told(start_peer: StartPeer, tmp_path: Path) -> None:
    peer = await start_peer("peer")
    other = await start_peer("other", *peer.addresses)
    os.kill(daemon_pid(tmp_path / "peer"), signal.SIGKILL)
    await peer.wait_ended()
    with pytest.raises(UnreachableError, match="this node's libp2p daemon has ended; start the node again"):
        await peer.call(other.peer_id, "any", b"")
    with pytest.raises(UnreachableError, match="this node's libp2p daemon has ended; start the node again"):
        await peer.connected_peers()
    with pytest.raises(UnreachableError, match="this node's libp2p daemon has ended; start the node again"):
        await peer.way_in()
