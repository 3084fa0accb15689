"""What the swarm tests share: the type of the ``start_peer`` fixture, and watching a daemon's process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from anynode.swarm.peer import Peer

StartPeer = Callable[..., Awaitable[Peer]]


def daemon_pid(state_dir: Path) -> int:
    """The process id of the daemon that a peer started with ``state_dir``."""
    (record,) = state_dir.glob("p2pd-*.json")
    pid = json.loads(record.read_bytes())["pid"]
    assert isinstance(pid, int)
    return pid


class ProcessWatch:
    """Waits for the end of a process that may not be our child; opened while it still runs."""

    def __init__(self, pid: int) -> None:
        self._handle = os.pidfd_open(pid)

    async def ended(self, timeout_s: float = 30.0) -> None:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._handle, event.set)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        finally:
            loop.remove_reader(self._handle)
            os.close(self._handle)
