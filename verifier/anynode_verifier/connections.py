"""Which peers go away: a process that dies closes its connection at once, a cut line shows only in its silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from anynode.swarm.peer import Peer
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)

WATCH_PAUSE_S = 0.5


async def closed_connections(peer: Peer) -> AsyncIterator[frozenset[str]]:
    """The libp2p peers whose connection has closed, each time that there are some."""
    before: frozenset[str] = frozenset()
    while True:
        await asyncio.sleep(WATCH_PAUSE_S)
        try:
            connected = frozenset(await peer.connected_peers())
        except UserError as error:
            log.debug("connections are not known: %s", error)
            continue
        if before - connected:
            yield before - connected
        before = connected
