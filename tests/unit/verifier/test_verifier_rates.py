"""Audit rates: at none of them does any attack pay, and an honest worker with a stake is audited rarely."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_world import PRICE_WEI, SignedWorld, make_job

from anynode.rounds.course import Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode.rounds.standing import EVERY_TIME_PPM, Standing
from anynode_contracts.errors import RefusedError
from anynode_verifier.rates import (
    COLLUDING_PERCENT,
    COST_PERCENT,
    AuditRate,
    audit_rate,
    break_even_ppm,
    check_rates,
    reward_wei,
)

WEI = st.integers(0, 10**24)
WHOLE = Fraction(1)
TRUSTED = Standing(proven=True, audits=10_000)


def gain(rate_ppm: int, reward: int, at_risk: int, share: Fraction = WHOLE, exposure: Fraction = WHOLE) -> Fraction:
    """What leaving out a share of one round's work is expected to bring, in wei: that share of its cost, less what the
    audit takes, if it exposes such work by that chance.
    """
    saved, r = share * COST_PERCENT * reward / 100, Fraction(COLLUDING_PERCENT, 100)
    return saved - Fraction(rate_ppm, EVERY_TIME_PPM) * exposure * ((1 - r) * at_risk + (1 - 2 * r) * reward)


@given(WEI, WEI)
def test_no_attack_pays_at_this_rate_and_one_does_just_below(reward: int, at_risk: int) -> None:
    rate = break_even_ppm(reward, at_risk)
    assert 1 <= rate <= EVERY_TIME_PPM
    if rate < EVERY_TIME_PPM:
        assert gain(rate, reward, at_risk) < 0 or reward == 0
        assert gain(rate - 1, reward, at_risk) >= 0


@given(WEI, WEI, WEI)
def test_more_at_risk_never_means_more_audits(reward: int, at_risk: int, more: int) -> None:
    assert break_even_ppm(reward, at_risk + more) <= break_even_ppm(reward, at_risk)


def test_with_33_rounds_pay_at_risk_audits_take_less_than_three_percent() -> None:
    assert break_even_ppm(10**18, 33 * 10**18) <= 30_000
    assert break_even_ppm(10**18, 0) == EVERY_TIME_PPM, "who has nothing to lose is always audited"


def test_the_rate_of_a_worker_says_why() -> None:
    reward = 10**18
    assert audit_rate(Standing(), reward, 10**24, 0) == AuditRate(EVERY_TIME_PPM, "newcomers are audited every time")
    one = audit_rate(Standing(proven=True, audits=4), reward, 10**24, 0)
    assert (one.ppm, "audits so far: 4" in one.why) == (200_000, True)
    staked = audit_rate(TRUSTED, reward, 33 * reward, 0)
    assert (staked.ppm, "33.0 rounds' pay" in staked.why) == (break_even_ppm(reward, 33 * reward), True)
    assert audit_rate(TRUSTED, reward, 33 * reward, 50_000) == AuditRate(50_000, "the network's lowest rate")
    assert audit_rate(TRUSTED, 0, 0, 0).ppm >= 1


@given(st.integers(1, 10**24), WEI)
def test_in_a_class_that_nobody_makes_a_cheat_loses_by_each_round(reward: int, held_back: int) -> None:
    """What differs there is void: it costs its worker the pay of that round alone, whatever is held back from it."""

    def gained(rate: AuditRate) -> Fraction:
        return Fraction(COST_PERCENT * reward, 100) - Fraction(rate.ppm, EVERY_TIME_PPM) * reward

    undecided = audit_rate(TRUSTED, reward, held_back, 20_000, decided=False)
    assert gained(undecided) == -Fraction(100 - COST_PERCENT, 100) * reward
    assert "does not make its hardware class" in undecided.why
    as_if_slashed = audit_rate(TRUSTED, reward, 33 * reward, 20_000)
    assert gained(as_if_slashed) > Fraction(8, 10) * reward, "with S counted as lost, noise would pay"


def test_a_failure_resets_the_rate() -> None:
    assert audit_rate(Standing(banned="differs"), 1, 10**24, 0).ppm == EVERY_TIME_PPM


def test_the_reward_is_the_samples_share_of_the_price() -> None:
    job = make_job()
    assert reward_wei(job, 5) == 5 * job.training.batch_size * PRICE_WEI * 90 // 100


def with_rates(records: list[Record], round_: int, rate_ppm: int) -> list[Record]:
    """The records with every rate at its highest, but those of one round."""
    changed = []
    for record in records:
        if isinstance(record.body, Seal):
            rate = rate_ppm if record.body.round == round_ else EVERY_TIME_PPM
            seal = replace(record.body, rates_ppm=(rate,) * len(record.body.commitments))
            record = replace(record, body=seal)  # noqa: PLW2901
        changed.append(record)
    return changed


def test_an_auditor_sees_a_rate_that_is_lower_than_stakes_ask_for(grown: SignedWorld) -> None:
    """By round 1 nobody can have had more at risk than round 0 has earned."""
    rates = check_rates(with_rates(grown.records, 0, EVERY_TIME_PPM), grown.job, 10**30)
    assert set(rates) == {EVERY_TIME_PPM}
    assert len(rates) == sum(len(r.body.commitments) for r in grown.records if isinstance(r.body, Seal))
    with pytest.raises(RefusedError, match="round 0, slot 0: sealed with an audit rate of 999999 ppm"):
        check_rates(with_rates(grown.records, 0, 999_999), grown.job, 10**30)
    with pytest.raises(RefusedError, match=r"round 1, slot 0: .* stake of at most 9500000000028 wei asks for 556838"):
        check_rates(with_rates(grown.records, 1, 556_837), grown.job, 10**30)
    with pytest.raises(RefusedError, match="stake of at most 1 wei"):
        check_rates(with_rates(grown.records, 1, 900_000), grown.job, 1)


def test_who_comes_and_goes_is_told_apart(grown: SignedWorld) -> None:
    """Nodes are paid in rounds of their own before all are paid in one: each has its own earnings."""
    last = [record.body for record in grown.records if isinstance(record.body, Verdict)][-1]
    a, b, c = [item.node for item in last.judged if item.accepted][:3]
    paid_in = ({a}, {a, b}, {c}, {a, b, c}, {a, b, c})
    records = [
        replace(r, body=paying(r.body, paid_in[r.body.round])) if isinstance(r.body, Verdict) else r
        for r in with_rates(grown.records, 0, EVERY_TIME_PPM)
    ]
    assert set(check_rates(records, grown.job, 10**30)) == {EVERY_TIME_PPM}


def paying(body: Verdict, nodes: set[str]) -> Verdict:
    """The same verdict, with the work of all others void."""
    return replace(
        body, judged=tuple(item if item.node in nodes else replace(item, outcome="void") for item in body.judged)
    )


def test_no_cheat_pays_that_an_audit_within_a_tolerance_sees_as_often_as_was_measured() -> None:
    """Of each pair of classes: a share left out everywhere, or only in k of n segments, of which two are drawn. None is
    exposed less often than what it saves asks for.
    """
    evidence = json.loads((Path(__file__).parents[3] / "docs" / "evidence" / "false-flags.json").read_text())
    measured = [
        (Fraction(share), part) for parts in evidence["keys"]["power"].values() for share, part in parts.items()
    ]
    assert len(measured) >= 24 and min(part for _, part in measured) >= 0.8, "security.md says four of five"
    reward, at_risk = 10**18, 33 * 10**18
    rate = break_even_ppm(reward, at_risk)
    for share, part in measured:
        assert gain(rate, reward, at_risk, share, Fraction(part)) < 0
        missed = math.sqrt(1 - part)  # of one segment
        for n in range(2, 21):
            for k in range(1, n + 1):
                both = [Fraction(math.comb(k, i) * math.comb(n - k, 2 - i), math.comb(n, 2)) for i in range(3)]
                exposure = 1 - sum(odds * Fraction(missed**i) for i, odds in enumerate(both))
                assert gain(rate, reward, at_risk, share * k / n, exposure) < 0, (share, k, n)
