"""Start a peer, print its address on a line, and stay until stdin ends.

python hold_daemon.py IDENTITY STATE_DIR PORT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from anynode.swarm.peer import Peer


async def main() -> None:
    identity, state_dir, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    async with await Peer.start(identity, port, state_dir=state_dir, network="test") as peer:
        sys.stdout.write(f"{peer.addresses[0]}\n")
        sys.stdout.flush()
        # Read in the loop, not in a thread: a thread blocked on stdin would hold up the end of the interpreter.
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, lambda: ended.set() if os.read(0, 1) == b"" else None)
        await ended.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, as we may be, ignores it
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
