"""One worker split into many identities."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from audit_population import COST, REWARD, STRATEGIES, gain

from anynode_verifier.rates import break_even_ppm

ATTACK = Attack(
    "one worker split into many identities",
    "A worker shares its rounds among eight keys, so that each has little to lose, and cheats after ten rounds.",
    "unprofitable",
)
FLOOR_PPM = 20_000


def test_each_identity_is_audited_by_its_own_stake(expect: Expect) -> None:
    """Who has an eighth held back is audited as often as that asks for: splitting buys nothing."""
    split = next(strategy for strategy in STRATEGIES if strategy.identities == 8)
    found = gain(split, 20, FLOOR_PPM)
    assert found.expected < 0
    for at_risk in range(0, 34 * REWARD, REWARD):
        odds = break_even_ppm(REWARD, at_risk) / 1e6
        assert odds * (at_risk + REWARD) > COST or odds == 1, "what is lost, by the odds, is more than is saved"
    expect(Finding("unprofitable", f"{found.expected:+.2f} rewards for each round cheated in"))
