"""The chain as a source of beacons: block hashes that nobody knew when they were committed to."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3Exception

from anynode_contracts.errors import UnreachableError
from anynode_contracts.networks import Network

AUDIT_DELAY_BLOCKS = 2
SHARED_DELAY_BLOCKS = 30
"""Among several verifiers: the block of a draw must still be to come when the others look at the seal."""
LAG_S = 20.0
"""A node of the chain may lag behind another's by so much."""
LAG_BLOCKS = math.ceil(LAG_S)
"""So many blocks it lacks then at most: the chain makes no more than one a second."""
BLOCK_PAUSE_S = 1.0
NO_BLOCK = "0x" + "0" * 64


def block_time_s(w3: Web3, height: int) -> int | None:
    """When a block was made, in seconds since 1970. Blocks. None while nobody can say."""
    try:
        return int(w3.eth.get_block(height)["timestamp"])
    except (RequestException, Web3Exception, OSError):
        return None


@dataclass(frozen=True, slots=True)
class BeaconBlock:
    """``beacon`` opens a round; the hash of block ``audit_height`` completes its audit draw, 0: not known."""

    beacon: str
    audit_height: int


class Blocks:
    """Reads blocks in threads, so that a slow RPC never holds up the swarm."""

    def __init__(
        self,
        w3: Web3,
        rpc_shown: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        audit_delay_blocks: int = AUDIT_DELAY_BLOCKS,
    ) -> None:
        self._w3, self._rpc_shown, self._clock, self._delay_blocks = w3, rpc_shown, clock, audit_delay_blocks
        self._read_at = clock()
        self._newest_height = 0
        self._newest_hash = NO_BLOCK

    @classmethod
    def of(cls, w3: Web3, network: Network) -> Blocks:
        """For a verifier of this network: among several, a draw's block is later than the others need to look."""
        delay_blocks = SHARED_DELAY_BLOCKS if len(network.verifiers) > 1 else AUDIT_DELAY_BLOCKS
        return cls(w3, network.rpc_shown, audit_delay_blocks=delay_blocks)

    async def beacon(self, head: str) -> BeaconBlock:
        """The newest block. While the RPC is down, rounds go on: the beacon is then a hash of the last known block
        and of the record chain's ``head``. The audit draw then waits for a block that cannot exist yet on a chain
        with at most one block a second. Of a chain that was never seen only the records say how high it was.
        """
        try:
            height = await self.newest_height()
        except UnreachableError:
            stand_in = blake3(f"anynode beacon {self._newest_hash} {head}".encode()).hexdigest()
            seen = self._newest_hash != NO_BLOCK
            return BeaconBlock(stand_in, self._at_most() + self._delay_blocks if seen else 0)
        return BeaconBlock(self._newest_hash, height + self._delay_blocks)

    async def last_sealed_height(self) -> float:
        """No verifier whose node of the chain is as good as ours seals a later block than this one now. Without a limit
        while the chain was never seen.
        """
        try:
            height = await self.newest_height()
        except UnreachableError:
            if self._newest_hash == NO_BLOCK:
                return math.inf
            height = self._at_most()
        return height + SHARED_DELAY_BLOCKS + LAG_BLOCKS

    async def hash_at(self, height: int) -> str | None:
        """The hash of a block, None while it does not exist. Raises ``UnreachableError``."""
        return await asyncio.to_thread(self._hash_at, height)

    async def wait_for(self, height: int) -> str:
        """The hash of a block, as soon as there is one. Raises ``UnreachableError``."""
        while (found := await self.hash_at(height)) is None:  # noqa: ASYNC110 (an RPC tells no event)
            await asyncio.sleep(BLOCK_PAUSE_S)
        return found

    async def see(self, height: int) -> str:
        """The hash of a block, as soon as there is one, however long the chain is silent before."""
        while True:
            try:
                return await self.wait_for(height)
            except UnreachableError:
                await asyncio.sleep(BLOCK_PAUSE_S)

    async def wait_for_height_of(self, block_hash: str) -> int:
        """The height of a block, as soon as the chain has it. Raises ``UnreachableError``."""
        while (found := await self.height_of(block_hash)) is None:  # noqa: ASYNC110 (an RPC tells no event)
            await asyncio.sleep(BLOCK_PAUSE_S)
        return found

    async def newest_height(self) -> int:
        """The height of the newest block. Raises ``UnreachableError``."""
        self._newest_height, self._newest_hash = await asyncio.to_thread(self._newest)
        self._read_at = self._clock()
        return self._newest_height

    async def height_of(self, block_hash: str) -> int | None:
        """The height of the block with this hash, None where the chain has none. Raises ``UnreachableError``."""
        block = await asyncio.to_thread(self._read, HexBytes(block_hash))
        return block[0] if block else None

    def _at_most(self) -> int:
        """What the newest height cannot have passed since it was last seen."""
        return self._newest_height + math.ceil(self._clock() - self._read_at)

    def _newest(self) -> tuple[int, str]:
        block = self._read("latest")
        if block is None:
            raise UnreachableError(f"the RPC at {self._rpc_shown} has no block yet; wait until it has synced")
        return block

    def _hash_at(self, height: int) -> str | None:
        block = self._read(height)
        return block[1] if block else None

    def _read(self, which: int | str | HexBytes) -> tuple[int, str] | None:
        try:
            block = self._w3.eth.get_block(which)  # type: ignore[arg-type]
        except BlockNotFound:
            return None
        except (RequestException, Web3Exception, OSError) as error:
            raise UnreachableError(
                f"the RPC at {self._rpc_shown} does not answer; start it, everything that waits goes on by itself"
            ) from error
        return block["number"], Web3.to_hex(block["hash"])
