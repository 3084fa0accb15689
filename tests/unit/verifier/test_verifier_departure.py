"""What a verifier on its way out can send at each moment, and what it is told of the rest. Times in seconds."""

from __future__ import annotations

import pytest

from anynode_contracts.stakes import Stake, VerifierStanding
from anynode_verifier.departure import Departure, Step

TOKEN = 10**18
NODE = "0x00000000000000000000000000000000000000a1"
DUE_S = 1_700_000_000

IN, OUT = VerifierStanding.MEMBER, VerifierStanding.LEFT


def departure(
    standing: VerifierStanding,
    *,
    active: int = 0,
    unbonding: int = 0,
    frozen: int = 0,
    now_s: int = DUE_S,
    others: int = 2,
) -> Departure:
    stake = Stake(active * TOKEN, unbonding * TOKEN, frozen * TOKEN, DUE_S)
    return Departure(index=1, payout=NODE, standing=standing, others=others, stake=stake, now_s=now_s)


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        (departure(IN, active=1000), (Step.RESIGN, Step.ASK_BACK)),
        (departure(OUT, active=1000), (Step.ASK_BACK,)),
        (departure(IN, active=1000, unbonding=50), (Step.WITHDRAW, Step.RESIGN, Step.ASK_BACK)),
        (departure(IN, active=1000, unbonding=50, now_s=DUE_S - 1), (Step.RESIGN, Step.ASK_BACK)),
        (departure(OUT, unbonding=1000, now_s=DUE_S - 1), ()),
        (departure(OUT, unbonding=1000), (Step.WITHDRAW,)),
        (departure(OUT, unbonding=1000, frozen=999), (Step.WITHDRAW,)),
        (departure(OUT, unbonding=1000, frozen=1000), ()),
        (departure(OUT), ()),
        (departure(VerifierStanding.PROVEN, frozen=400), ()),
    ],
)
def test_the_steps(found: Departure, steps: tuple[Step, ...]) -> None:
    assert found.steps == steps


def test_what_remains() -> None:
    waiting = departure(OUT, unbonding=1000, now_s=DUE_S - 1)
    assert f"From 2023-11-14 22:13:20 UTC on the same command sends 1,000 ANY to {NODE}" in waiting.remaining
    assert "Proposed slashes hold 400 ANY" in departure(OUT, unbonding=400, frozen=400).remaining
    assert departure(OUT).remaining == "Nothing of it is at stake any more."


def test_a_set_that_it_leaves_empty() -> None:
    assert departure(IN, active=1000, others=0).leaves_nobody
    assert not departure(IN, active=1000, others=1).leaves_nobody
    assert not departure(OUT, active=1000, others=0).leaves_nobody


def test_what_is_withdrawable() -> None:
    """Frozen of a stake is first what is not asked back."""
    assert Stake(600, 400, 700, DUE_S).withdrawable_wei(DUE_S) == 300
    assert Stake(600, 400, 500, DUE_S).withdrawable_wei(DUE_S) == 400
    assert Stake(600, 400, 500, DUE_S).withdrawable_wei(DUE_S - 1) == 0
    assert Stake(0, 0, 500, DUE_S).free_wei == 0, "a proof has taken what was frozen"
