"""The blocks that records name, against a real chain: before a follower signs, and when an auditor looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from round_actors import BODIES, chain_of
from web3 import Web3
from web3.types import RPCEndpoint

from anynode.rounds.course import Open, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.networks import connect
from anynode_verifier.block_checks import BlockChecks, look_up
from anynode_verifier.blocks import LAG_BLOCKS, SHARED_DELAY_BLOCKS, Blocks

ROOT = Path(__file__).parents[3]
OPEN, SEAL, VERDICT = BODIES[1], BODIES[2], BODIES[6]
assert isinstance(OPEN, Open)
assert isinstance(SEAL, Seal)
assert isinstance(VERDICT, Verdict)
STAND_IN = "e" * 64
SILENT = Blocks(connect("http://127.0.0.1:1"), "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil.start(find_anvil(ROOT)) as running:
        mine(running.w3, SHARED_DELAY_BLOCKS + 5)
        yield running


def mine(w3: Web3, blocks: int = 1) -> None:
    for _ in range(blocks):
        w3.provider.make_request(RPCEndpoint("evm_mine"), [])


def hash_of(w3: Web3, height: int) -> str:
    return Web3.to_hex(w3.eth.get_block(height)["hash"])


def checks(chain: Anvil) -> BlockChecks:
    return BlockChecks(Blocks(chain.w3, chain.url), wait_s=0.2)


async def test_a_round_opens_with_a_new_block(chain: Anvil) -> None:
    newest = chain.w3.eth.block_number
    check = checks(chain)
    for height in (newest, newest - SHARED_DELAY_BLOCKS):
        await check.opened(replace(OPEN, beacon=hash_of(chain.w3, height)))
    chosen_among_many = replace(OPEN, beacon=hash_of(chain.w3, newest - SHARED_DELAY_BLOCKS - 1))
    with pytest.raises(RefusedError, match=f"block {newest} was there already"):
        await check.opened(chosen_among_many)
    with pytest.raises(RefusedError, match="no block of the chain"):
        await check.opened(replace(OPEN, beacon="0x" + "e" * 64))
    with pytest.raises(RefusedError, match="the chain answers here"):
        await check.opened(replace(OPEN, beacon=STAND_IN))


async def test_the_block_of_a_draw_is_still_to_come_when_it_is_sealed(chain: Anvil) -> None:
    newest = chain.w3.eth.block_number
    await checks(chain).sealed(replace(SEAL, audit_height=newest + 1))
    with pytest.raises(RefusedError, match=f"block {newest} is there already"):
        await checks(chain).sealed(replace(SEAL, audit_height=newest))


async def test_the_block_of_a_draw_is_not_so_far_off_that_nobody_can_judge(chain: Anvil) -> None:
    """Whose node of the chain lags, and lacks the newest blocks, signs all the same."""
    await checks(chain).sealed(replace(SEAL, audit_height=chain.w3.eth.block_number + LAG_BLOCKS + SHARED_DELAY_BLOCKS))
    for height in (chain.w3.eth.block_number + LAG_BLOCKS + SHARED_DELAY_BLOCKS + 1, 1 << 48):
        with pytest.raises(RefusedError, match=f"block {height} draws its audits"):
            await checks(chain).sealed(replace(SEAL, audit_height=height))


async def test_while_the_chain_is_silent_a_draw_waits_no_longer_than_the_silence_asks_for() -> None:
    """It goes on unseen, by a block a second at most."""
    now = [0.0]
    with Anvil.start(find_anvil(ROOT)) as running:
        blocks = Blocks(running.w3, running.url, clock=lambda: now[0])
        height = await blocks.newest_height()
    now[0] = 100.0
    last = height + 100 + SHARED_DELAY_BLOCKS + LAG_BLOCKS
    await BlockChecks(blocks).sealed(replace(SEAL, audit_height=last))
    with pytest.raises(RefusedError, match=f"up to {last}"):
        await BlockChecks(blocks).sealed(replace(SEAL, audit_height=last + 1))


async def test_a_verdict_draws_with_the_block_that_was_sealed(chain: Anvil) -> None:
    newest = chain.w3.eth.block_number
    seal = replace(SEAL, audit_height=newest)
    await checks(chain).drawn(seal, replace(VERDICT, block_hash=hash_of(chain.w3, newest)))
    with pytest.raises(RefusedError, match="another block"):
        await checks(chain).drawn(seal, replace(VERDICT, block_hash=hash_of(chain.w3, newest - 1)))
    with pytest.raises(RefusedError, match="not there yet"):
        await checks(chain).drawn(replace(SEAL, audit_height=newest + 1), VERDICT)


async def test_while_the_chain_is_silent_rounds_go_on_and_no_verdict_is_signed() -> None:
    check = BlockChecks(SILENT)
    await check.opened(replace(OPEN, beacon=STAND_IN))
    await check.sealed(SEAL)
    with pytest.raises(UnreachableError):
        await check.drawn(SEAL, VERDICT)
    with pytest.raises(UnreachableError):
        await look_up(chain_of(*BODIES), SILENT)


def records(chain: Anvil, *, first: int, second: int, sealed: int, drawn: int) -> list[Record]:
    """Two rounds: the heights of their beacons, of the first one's draw as sealed and as drawn."""
    seal = replace(SEAL, audit_height=sealed)
    verdict = replace(VERDICT, block_hash=hash_of(chain.w3, drawn))
    bodies = [replace(OPEN, beacon=hash_of(chain.w3, first)), seal, *BODIES[3:6]]
    later = replace(OPEN, round=1, beacon=hash_of(chain.w3, second))
    return chain_of(BODIES[0], *bodies, verdict, later, replace(OPEN, round=2, beacon=STAND_IN))


@pytest.mark.parametrize(
    ("heights", "doubts"),
    [
        ({"first": 3, "second": 6, "sealed": 5, "drawn": 5}, {}),
        ({"first": 3, "second": 2, "sealed": 5, "drawn": 5}, {1: "its beacon is an older block than the one before"}),
        (
            {"first": 3, "second": 6, "sealed": 3, "drawn": 3},
            {0: "the block of its draw was known when it opened"},
        ),
        ({"first": 3, "second": 6, "sealed": 5, "drawn": 4}, {0: "its draw names another block 5 than the chain has"}),
    ],
)
async def test_an_auditor_names_the_rounds_whose_blocks_do_not_fit(
    chain: Anvil, heights: dict[str, int], doubts: dict[int, str]
) -> None:
    seen = await look_up(records(chain, **heights), Blocks(chain.w3, chain.url))
    assert (seen.doubts, seen.stand_ins) == (doubts, 1)
    assert seen.confirmed == 3 - (len(doubts) if heights["sealed"] > heights["first"] else 0)


async def test_an_auditor_names_the_rounds_that_nobody_can_judge(chain: Anvil) -> None:
    """A single verifier has no other beside it that would refuse to sign this."""
    bodies = [replace(OPEN, beacon=hash_of(chain.w3, 3)), replace(SEAL, audit_height=1 << 48), *BODIES[3:6]]
    seen = await look_up(chain_of(BODIES[0], *bodies), Blocks(chain.w3, chain.url))
    assert seen.doubts == {0: f"its audits wait for block {1 << 48}, which is far off even now"}


async def test_an_auditor_names_a_beacon_that_nobody_has_mined(chain: Anvil) -> None:
    made_up = chain_of(BODIES[0], replace(OPEN, beacon="0x" + "e" * 64))
    seen = await look_up(made_up, Blocks(chain.w3, chain.url))
    assert seen.doubts == {0: "its beacon is no block of the chain"}
