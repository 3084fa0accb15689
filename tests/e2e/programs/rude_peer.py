"""A peer that sends a verifier messages that are none, until it is dropped: then it says so and stays.

python rude_peer.py FOLDER NETWORK ADDRESS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from anynode.rounds.messages import PROTOCOL
from anynode.swarm.peer import Peer
from anynode.worker.link import JOBS, ROUND
from anynode_contracts.errors import RefusedError, UnreachableError

CALLS_MAX = 100


async def main() -> None:
    folder, network, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    peer = await Peer.start(folder / "key", 0, [address], state_dir=folder / "daemon", network=network)
    async with peer:
        print(peer.peer_id, flush=True)
        verifier = address.rpartition("/")[2]
        job = (await peer.call(verifier, JOBS, b"", limit_bytes=1 << 20)).decode().partition('"job_id": "')[2][:64]
        for _ in range(CALLS_MAX):
            try:
                await peer.call(verifier, ROUND, job.encode() + bytes([PROTOCOL]) + b"rubbish")
            except RefusedError:
                continue
            except UnreachableError:
                print("dropped", flush=True)
                break
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
