"""A peer that speaks another version of the protocol. Prints its address and stays until its input ends.

python other_version.py FOLDER NETWORK VERSION
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from anynode.swarm.peer import Peer


async def main(folder: Path, network: str, protocol: int) -> None:
    peer = await Peer.start(folder / "other.key", state_dir=folder, network=network, protocol=protocol)
    async with peer:
        print(peer.addresses[0], flush=True)
        await peer.wait_ended()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
