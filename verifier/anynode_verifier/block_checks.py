"""Whether the blocks that records name are the chain's, and were named when nobody could choose among many.

A follower looks before it signs. An auditor looks afterwards, when it cannot tell any more how old a block was then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from anynode.rounds.course import Open, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_verifier.blocks import LAG_S, SHARED_DELAY_BLOCKS, Blocks

log = logging.getLogger(__name__)


def is_block(beacon: str) -> bool:
    """Whether a beacon calls itself a block's hash; a stand-in for a silent chain does not."""
    return beacon.startswith("0x")


class BlockChecks:
    """A follower's look at the chain. Each check raises ``RefusedError`` when the record must not be signed."""

    def __init__(self, blocks: Blocks, wait_s: float = LAG_S) -> None:
        self._blocks, self._wait_s = blocks, wait_s

    async def opened(self, opened: Open) -> None:
        """The beacon is one of the newest blocks; a stand-in is taken only while the chain is silent here too."""
        try:
            newest = await self._blocks.newest_height()
            if not is_block(opened.beacon):
                raise RefusedError("its beacon is no block, and the chain answers here")
            height = await self._height_of(opened.beacon)
        except UnreachableError as error:
            log.warning("the beacon of round %d is not checked: %s", opened.round, error)
            return
        if height < newest - SHARED_DELAY_BLOCKS:
            raise RefusedError(f"its beacon is block {height}, and block {newest} was there already")

    async def sealed(self, seal: Seal) -> None:
        """The block that completes the draw does not exist yet, and comes so soon that the round can be judged."""
        last = await self._blocks.last_sealed_height()
        if seal.audit_height > last:
            raise RefusedError(f"block {seal.audit_height} draws its audits, and one up to {last} would do")
        try:
            newest = await self._blocks.newest_height()
        except UnreachableError as error:
            log.warning("the block of round %d's audit draw is not checked: %s", seal.round, error)
            return
        if seal.audit_height <= newest:
            raise RefusedError(f"block {seal.audit_height} draws its audits, and block {newest} is there already")

    async def drawn(self, seal: Seal, verdict: Verdict) -> None:
        """The draw was made with the block that was sealed. While the chain is silent no verdict is signed."""
        try:
            async with asyncio.timeout(self._wait_s):
                found = await self._blocks.wait_for(seal.audit_height)
        except TimeoutError as error:
            raise RefusedError(f"block {seal.audit_height} is not there yet") from error
        if found != verdict.block_hash:
            raise RefusedError(f"its draw names another block {seal.audit_height} than the chain has")

    async def _height_of(self, beacon: str) -> int:
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._blocks.wait_for_height_of(beacon)
        except TimeoutError as error:
            raise RefusedError("its beacon is no block of the chain") from error


@dataclass(frozen=True, slots=True)
class BlocksSeen:
    """What an auditor finds of the blocks that records name: how many are the chain's, how many beacons are stand-ins
    for a silent chain, and by round what does not fit. A reorganisation of the chain can be the reason for that.
    """

    confirmed: int
    stand_ins: int
    doubts: Mapping[int, str]


async def look_up(records: Iterable[Record], blocks: Blocks) -> BlocksSeen:
    """Beacons are blocks in the order of their rounds, and each draw was made with the block that was sealed, which is
    later than its round's beacon and not far off now. Raises ``UnreachableError`` when the chain is silent.
    """
    last = await blocks.last_sealed_height()
    confirmed = stand_ins = newest = 0
    doubts: dict[int, str] = {}
    seals: dict[int, Seal] = {}
    for record in records:
        match record.body:
            case Open(round=number, beacon=beacon) if is_block(beacon):
                height = await blocks.height_of(beacon)
                if height is None:
                    doubts[number] = "its beacon is no block of the chain"
                elif height < newest:
                    doubts[number] = "its beacon is an older block than the one before"
                else:
                    newest, confirmed = height, confirmed + 1
            case Open():
                stand_ins += 1
            case Seal(round=number) as seal:
                seals[number] = seal
                if seal.audit_height <= newest:
                    doubts[number] = "the block of its draw was known when it opened"
                elif seal.audit_height > last:
                    doubts[number] = f"its audits wait for block {seal.audit_height}, which is far off even now"
            case Verdict(round=number) as verdict:
                if await blocks.hash_at(seals[number].audit_height) == verdict.block_hash:
                    confirmed += 1
                else:
                    doubts[number] = f"its draw names another block {seals[number].audit_height} than the chain has"
            case _:
                pass
    return BlocksSeen(confirmed, stand_ins, doubts)
