"""Incoming streams are closed however soon the peer closes: none may outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import warnings
from pathlib import Path

import pytest

from anynode.swarm.control import Acceptor, close_stream


async def stream_pair() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return reader, writer, theirs


async def sees_the_end(other_end: socket.socket) -> bool:
    async with asyncio.timeout(10):
        with other_end:
            try:
                return await asyncio.get_running_loop().sock_recv(other_end, 1) == b""
            except ConnectionResetError:
                return True


@pytest.mark.parametrize("turns", range(6))
async def test_streams_that_come_while_the_peer_closes_are_closed(tmp_path: Path, turns: int) -> None:
    """Close the acceptor at each of the loop's turns between a connection's arrival and its handler's work."""
    acceptor, loop = Acceptor(tmp_path / "s"), asyncio.get_running_loop()
    await acceptor.start()
    other_ends = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
    for other_end in other_ends:
        other_end.connect(str(acceptor.path))
        other_end.setblocking(False)
    for _ in range(turns):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", ResourceWarning)
        await acceptor.close()
        for other_end in other_ends:
            assert await sees_the_end(other_end)
        gc.collect()
    assert [str(leak.message) for leak in leaks] == []


async def test_a_close_that_is_broken_off_does_not_break_the_next(tmp_path: Path) -> None:
    _, writer, other_end = await stream_pair()
    first = asyncio.create_task(close_stream(writer))
    asyncio.get_running_loop().call_soon(first.cancel)  # right after its first step, while it waits
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await close_stream(writer)
    assert await sees_the_end(other_end)


async def test_a_stream_with_unsent_bytes_closes_at_once(tmp_path: Path) -> None:
    _, writer, other_end = await stream_pair()
    writer.write(bytes(8 << 20))  # the other end reads nothing
    async with asyncio.timeout(10):
        await close_stream(writer)
    other_end.close()
