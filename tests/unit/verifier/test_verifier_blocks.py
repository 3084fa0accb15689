"""Beacons from a real chain: new blocks, blocks that are still to come, and a chain that is silent."""

from __future__ import annotations

from pathlib import Path

import pytest
from web3 import Web3
from web3.types import RPCEndpoint

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.errors import UnreachableError
from anynode_contracts.networks import connect
from anynode_verifier.blocks import AUDIT_DELAY_BLOCKS, Blocks

ROOT = Path(__file__).parents[3]


def mine(w3: Web3, blocks: int = 1) -> None:
    for _ in range(blocks):
        w3.provider.make_request(RPCEndpoint("evm_mine"), [])


async def test_a_beacon_is_the_newest_block_and_its_audit_block_is_still_to_come(anvil: Anvil) -> None:
    blocks = Blocks(anvil.w3, anvil.url)
    mine(anvil.w3)
    newest = anvil.w3.eth.get_block("latest")
    found = await blocks.beacon("f" * 64)
    assert found.beacon == Web3.to_hex(newest["hash"])
    assert found.audit_height == newest["number"] + AUDIT_DELAY_BLOCKS > newest["number"]
    assert await blocks.hash_at(found.audit_height) is None
    mine(anvil.w3, AUDIT_DELAY_BLOCKS)
    assert await blocks.hash_at(found.audit_height) == Web3.to_hex(anvil.w3.eth.get_block(found.audit_height)["hash"])
    assert await blocks.hash_at(newest["number"]) == found.beacon
    assert (await blocks.beacon("f" * 64)).beacon != found.beacon


async def test_a_silent_chain_gives_stand_ins_and_the_draw_waits() -> None:
    now = [100.0]
    with Anvil.start(find_anvil(ROOT)) as chain:
        blocks = Blocks(chain.w3, chain.url, clock=lambda: now[0])
        mine(chain.w3, 3)
        known = await blocks.beacon("f" * 64)
    stand_in = await blocks.beacon("f" * 64)
    assert stand_in.beacon != known.beacon
    assert not stand_in.beacon.startswith("0x"), "a stand-in must not look like a block hash"
    assert len(stand_in.beacon) == 64
    assert stand_in.audit_height == known.audit_height, "the draw waits for a block after the last one known"
    now[0] += 60.5
    later = await blocks.beacon("f" * 64)
    assert later.audit_height == known.audit_height + 61, "blocks that the chain may have made unseen do not count"
    now[0] -= 60.5
    assert await blocks.beacon("f" * 64) == stand_in
    assert await blocks.beacon("e" * 64) != stand_in, "it must depend on the record chain"
    with pytest.raises(UnreachableError, match="does not answer"):
        await blocks.hash_at(known.audit_height)


async def test_a_chain_that_was_never_there_still_opens_rounds_and_names_no_height() -> None:
    """Heights counted from nothing would be those of blocks long past."""
    now = [5.0]
    blocks = Blocks(connect("http://127.0.0.1:1"), "http://127.0.0.1:1", clock=lambda: now[0])
    now[0] = 605.0
    found = await blocks.beacon("f" * 64)
    assert len(found.beacon) == 64 and found.audit_height == 0
