"""How long a holder of the duty may take, from its round's own times; and from when on a verdict is due."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from round_actors import ALICE, BOB, BODIES, chain_of
from round_centre import RULES
from web3.types import RPCEndpoint

from anynode.rounds import coordinator
from anynode.rounds.ballots import Expected
from anynode.rounds.course import Open, Seal
from anynode.rounds.giving import look_s
from anynode.rounds.judgements import Judged, ReductionJudged, Verdict
from anynode_contracts.anvil import Anvil, find_anvil
from anynode_verifier.blocks import Blocks
from anynode_verifier.dues import DUE_MARGIN_S, OPENING_S, check_s, record_due_s, verdict_due_s, watch_verdicts
from anynode_verifier.withholding import REVEAL_S

ROOT = Path(__file__).parents[3]
OPEN, SEAL, VERDICT = BODIES[1], BODIES[2], BODIES[6]
assert isinstance(OPEN, Open)
assert isinstance(SEAL, Seal)
ROUND_S = OPEN.work_s + OPEN.exchange_s


def after(records: int) -> coordinator.State:
    return coordinator.restore(RULES, chain_of(*BODIES[:records]), 0.0)


def test_something_is_due_as_long_as_the_job_goes_on() -> None:
    assert [record_due_s(after(count)) for count in range(len(BODIES) + 1)] == [
        *[OPENING_S] * 2,
        DUE_MARGIN_S + ROUND_S,
        DUE_MARGIN_S + (1 + 3) * ROUND_S,  # one newcomer is replayed for admission
        *[DUE_MARGIN_S + ROUND_S] * 2,
        *[OPENING_S] * 2,
        math.inf,
    ]


def test_a_verdict_may_take_what_answers_and_the_expected_replays_take() -> None:
    (audit,) = after(6).audits.values()
    assert verdict_due_s(audit) == DUE_MARGIN_S + (3 + 3 * 2) * ROUND_S
    seldom = replace(audit, seal=replace(audit.seal, rates_ppm=(20_000,) * 300))
    assert verdict_due_s(seldom) == DUE_MARGIN_S + (3 + 3 * 7) * ROUND_S


def test_what_is_repeated_before_it_is_signed_has_its_time() -> None:
    admitting, longest_s = after(3), RULES.work_s + RULES.exchange_s
    judged = (Judged(0, ALICE, "accepted", "exact", "equal"), Judged(1, BOB, "void", "none", "gone"))
    assert isinstance(VERDICT, Verdict)
    said = {
        BODIES[3]: 1,  # slot 0 is a newcomer
        replace(BODIES[3], attempt=1): 0,  # type: ignore[call-arg]
        BODIES[4]: 0,
        VERDICT: 0,  # all was decided before the exchange
        replace(VERDICT, judged=judged): 2,
        replace(VERDICT, judged=(Judged(0, ALICE, "accepted", "none", "not drawn"),)): 0,
    }
    assert {body: check_s(body, admitting) / longest_s for body in said} == said
    assert check_s(replace(VERDICT, secret=""), admitting) == REVEAL_S, "the sealer is asked for it"
    blamed = (ReductionJudged(0, 0, ALICE, "withheld", "nobody gives it"),)
    assert check_s(replace(VERDICT, reductions=blamed), admitting) == look_s(longest_s) >= longest_s
    assert check_s(replace(VERDICT, reductions=(replace(blamed[0], outcome="void"),)), admitting) == 0


class Told:
    """The agreement as a watcher knows it: what it was told, in order, and a state that changes under it."""

    def __init__(self, state: coordinator.State) -> None:
        self.state, self.changed, self.told = state, asyncio.Event(), asyncio.Queue[Expected]()

    def feed(self, message: Expected) -> None:
        self.told.put_nowait(message)

    async def until(self, condition: Any) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with Anvil.start(find_anvil(ROOT)) as running:
        yield running


async def test_a_verdict_is_due_once_its_block_is_there(chain: Anvil) -> None:
    told = Told(after(6))
    (audit,) = told.state.audits.values()
    blocks = Blocks(chain.w3, chain.url)
    watching = asyncio.create_task(watch_verdicts(cast(Any, told), blocks, lambda: told.state))
    while chain.w3.eth.block_number < SEAL.audit_height:
        assert await blocks.hash_at(SEAL.audit_height) is None and told.told.empty()
        chain.w3.provider.make_request(RPCEndpoint("evm_mine"), [])
    assert await asyncio.wait_for(told.told.get(), 20.0) == Expected("verdict", verdict_due_s(audit))
    told.state = after(7)
    told.changed.set()
    assert await asyncio.wait_for(told.told.get(), 20.0) == Expected("verdict", math.inf)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
