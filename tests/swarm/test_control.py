"""Incoming streams are closed however soon the peer closes: none may outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from anynode.swarm.control import Acceptor, close_stream


async def stream_pair() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return reader, writer, theirs


async def sees_the_end(other_end: socket.socket) -> bool:
    async with asyncio.timeout(10):
        with other_end:
            return await asyncio.get_running_loop().sock_recv(other_end, 1) == b""


async def test_a_stream_whose_task_has_not_begun_is_closed(tmp_path: Path) -> None:
    acceptor = Acceptor(tmp_path / "s")
    reader, writer, other_end = await stream_pair()
    acceptor._accept(reader, writer)  # its task exists, and takes its first step only when the loop runs on
    await acceptor.close()
    try:
        assert writer.is_closing() and await sees_the_end(other_end)
    finally:
        writer.close()


async def test_a_stream_that_comes_after_the_close_is_closed(tmp_path: Path) -> None:
    acceptor = Acceptor(tmp_path / "s")
    await acceptor.close()
    reader, writer, other_end = await stream_pair()
    acceptor._accept(reader, writer)
    try:
        assert writer.is_closing() and await sees_the_end(other_end)
    finally:
        writer.close()
        await acceptor.close()


async def test_a_close_that_is_broken_off_does_not_break_the_next(tmp_path: Path) -> None:
    _, writer, other_end = await stream_pair()
    first = asyncio.create_task(close_stream(writer))
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiting.set_result, None)
    await waiting  # one turn of the loop: the first close has begun
    first.cancel()
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
