"""Audit rates: at none of them does any attack pay, and an honest worker with a stake is audited rarely."""

from __future__ import annotations

import json
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
    TOLERANT_EXPOSURE_PPM,
    AuditRate,
    audit_rate,
    break_even_ppm,
    check_rates,
    reward_wei,
)

WEI = st.integers(0, 10**24)
TRUSTED = Standing(proven=True, audits=10_000)


TOLERANT = Standing(proven=True, audits=10_000, evidence="tolerant")


def gain(rate_ppm: int, exposure_ppm: int, reward: int, at_risk: int) -> Fraction:
    """What one round of skipped work is expected to bring, in wei: its cost saved, less what the audit takes."""
    caught = Fraction(rate_ppm * exposure_ppm, EVERY_TIME_PPM**2)
    saved, r = Fraction(COST_PERCENT * reward, 100), Fraction(COLLUDING_PERCENT, 100)
    return saved - caught * ((1 - r) * at_risk + (1 - 2 * r) * reward)


@given(WEI, WEI, st.integers(1_000, EVERY_TIME_PPM))
def test_no_attack_pays_at_this_rate_and_one_does_just_below(reward: int, at_risk: int, exposure_ppm: int) -> None:
    rate = break_even_ppm(reward, at_risk, exposure_ppm)
    assert 1 <= rate <= EVERY_TIME_PPM
    if rate < EVERY_TIME_PPM:
        assert gain(rate, exposure_ppm, reward, at_risk) < 0 or reward == 0
        assert gain(rate - 1, exposure_ppm, reward, at_risk) >= 0


@given(WEI, WEI, WEI)
def test_more_at_risk_never_means_more_audits(reward: int, at_risk: int, more: int) -> None:
    assert break_even_ppm(reward, at_risk + more) <= break_even_ppm(reward, at_risk)


def test_with_33_rounds_pay_at_risk_audits_take_less_than_three_percent() -> None:
    assert break_even_ppm(10**18, 33 * 10**18) <= 30_000
    assert break_even_ppm(10**18, 0) == EVERY_TIME_PPM, "who has nothing to lose is always audited"


def test_a_round_in_which_an_audit_sees_one_segment_in_four_needs_four_times_the_rate() -> None:
    whole, quarter = break_even_ppm(10**18, 50 * 10**18), break_even_ppm(10**18, 50 * 10**18, 250_000)
    assert abs(quarter - 4 * whole) <= 4


def test_the_rate_of_a_worker_says_why() -> None:
    reward = 10**18
    assert audit_rate(Standing(), reward, 10**24, 0) == AuditRate(EVERY_TIME_PPM, "newcomers are audited every time")
    one = audit_rate(Standing(proven=True, audits=4), reward, 10**24, 0)
    assert (one.ppm, "audits so far: 4" in one.why) == (200_000, True)
    staked = audit_rate(TRUSTED, reward, 33 * reward, 0)
    assert (staked.ppm, "33.0 rounds' pay" in staked.why) == (break_even_ppm(reward, 33 * reward), True)
    assert audit_rate(TRUSTED, reward, 33 * reward, 50_000) == AuditRate(50_000, "the network's lowest rate")
    assert audit_rate(TRUSTED, 0, 0, 0).ppm >= 1


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


def test_who_is_audited_within_a_tolerance_is_audited_more_often() -> None:
    """By as much as an audit of its class shows less often what a cheat did, and status says so."""
    reward = 10**18
    exact, tolerant = (audit_rate(standing, reward, 33 * reward, 0) for standing in (TRUSTED, TOLERANT))
    assert tolerant.ppm == break_even_ppm(reward, 33 * reward, TOLERANT_EXPOSURE_PPM)
    assert tolerant.ppm * TOLERANT_EXPOSURE_PPM >= exact.ppm * (EVERY_TIME_PPM - 1) - EVERY_TIME_PPM
    assert gain(tolerant.ppm, TOLERANT_EXPOSURE_PPM, reward, 33 * reward) <= 0
    assert "80% of the time" in tolerant.why and "of the time" not in exact.why


def test_an_auditor_finds_a_rate_that_is_too_low_for_tolerant_audits(grown: SignedWorld) -> None:
    """What passes for a worker that is replayed exactly does not for one whose last audit was within a tolerance."""
    enough = [
        replace(r, body=replace(r.body, rates_ppm=(560_000, *r.body.rates_ppm[1:])))
        if isinstance(r.body, Seal) and r.body.round == 1
        else r
        for r in with_rates(grown.records, 1, EVERY_TIME_PPM)
    ]
    assert check_rates(enough, grown.job, 10**30)
    told = [replace(r, body=tolerant(r.body)) if isinstance(r.body, Verdict) else r for r in enough]
    with pytest.raises(RefusedError, match=r"round 1, slot 0: .* 560000 ppm, and .* asks for 696048 ppm"):
        check_rates(told, grown.job, 10**30)


def tolerant(body: Verdict) -> Verdict:
    """The same verdict, on other evidence."""
    return replace(body, judged=tuple(replace(item, evidence="tolerant", residuals=(0, 0)) for item in body.judged))


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


def test_the_exposure_of_tolerant_audits_is_what_was_measured() -> None:
    evidence = json.loads((Path(__file__).parents[3] / "docs" / "evidence" / "false-flags.json").read_text())
    power = [part for parts in evidence["keys"]["power"].values() for part in parts.values()]
    assert len(power) >= 24 and min(power) * EVERY_TIME_PPM >= TOLERANT_EXPOSURE_PPM
