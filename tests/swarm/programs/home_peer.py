"""A peer in a home, told what to do by lines of JSON on stdin; each is answered by one line on stdout.

python home_peer.py FOLDER HOST PORT SETTINGS [INITIAL_PEER…]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from anynode.swarm.peer import Peer
from anynode.swarm.settings import DaemonSettings
from anynode_contracts.errors import UserError

LOOK_S = 0.25


async def reverse(peer_id: str, request: bytes) -> bytes:
    return request[::-1]


async def obey(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    if "call" in order:
        request = bytes(range(256)) * order["blocks"]
        answer = await peer.call(order["call"], "reverse", request, 60.0, len(request))
        return {"right": answer == request[::-1]}
    while (way := await peer.way_in()) != order["until"]:  # noqa: ASYNC110 (the daemon tells of no event)
        await asyncio.sleep(LOOK_S)
    return {"way": way, "addresses": peer.addresses}


async def main() -> None:
    folder, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    settings = DaemonSettings(**json.loads(sys.argv[4]))
    initial = sys.argv[5:]
    peer = await Peer.start(folder / "key", port, initial, host, state_dir=folder, network="test", settings=settings)
    async with peer:
        await peer.serve("reverse", reverse, limit_bytes=1 << 22)
        print(json.dumps({"peer_id": peer.peer_id, "addresses": peer.addresses}), flush=True)
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            try:
                answer = await obey(peer, json.loads(line))
            except UserError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except UserError as error:
        print(json.dumps({"error": str(error)}), flush=True)
