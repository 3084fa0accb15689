"""Real peers for the swarm tests: each with its own daemon, on free ports of 127.0.0.1, closed at the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from swarm_peers import StartPeer

from anynode.swarm.peer import Peer


@pytest.fixture
async def start_peer(tmp_path: Path) -> AsyncIterator[StartPeer]:
    """``await start_peer("name", *initial_peers, **options)`` starts a peer whose files are below ``tmp_path``."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, *initial_peers: str, **options: Any) -> Peer:
            options.setdefault("network", "test")
            options.setdefault("state_dir", tmp_path / name)
            peer = await Peer.start(tmp_path / f"{name}.key", initial_peers=initial_peers, **options)
            return await stack.enter_async_context(peer)

        yield start
