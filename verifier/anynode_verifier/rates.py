"""How often a worker is audited: so often that no way of cheating pays. Pure, in whole numbers, so that all agree.

An attack saves its worker C a round. An audit, made with probability p, exposes it with probability d, and then it
loses the pay S that is held back from it, and the reward R of the round. With a share r of colluding work, which gains
where it should lose, cheating does not pay while p d > C / ((1 - r) S + (1 - 2 r) R) (docs/security.md, Economics).

So the attack with the highest C / d sets the rate. That is to skip all the work: it saves the whole cost, and every
audit exposes it, d = 1. An exact replay of the whole round exposes whatever saves less, too. An audit within a
tolerance, of two drawn segments, does not: but it exposes work that leaves out a thirty-second part of its
micro-batches four times in five, larger cheats always (docs/evidence, `false-flags`), and tampering with k of n
segments at least k times in n. Each is exposed more often than the part of the cost that it saves.

All this is lost by work that is rejected. What differs in a class that the verifier does not make is void: it costs R
and no S. There S counts as nothing, which asks for an audit of every round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from anynode.jobs.job import Job
from anynode.rounds.course import Open, Seal
from anynode.rounds.records import Record
from anynode.rounds.standing import EVERY_TIME_PPM, Standing, least_rate_ppm
from anynode_contracts.errors import RefusedError, invariant
from anynode_contracts.pay_split import PaySplit
from anynode_verifier.credits import RoundCollector, RulingCollector, round_credits, ruling_credits

COST_PERCENT = 90
"""What of its reward a round's work costs at most: nobody works on for less."""
COLLUDING_PERCENT = 5
"""The share of audits that are taken to be in the hands of the worker's friends."""
VERIFIER_INDEX = 1 << 40
"""A place in the ledger that no node has."""


def break_even_ppm(reward_wei: int, at_risk_wei: int) -> int:
    """The least rate at which skipping the work costs more than it saves, in parts per million."""
    invariant(reward_wei >= 0 and at_risk_wei >= 0, "stakes are not negative")
    lost = counted_loss_percent(reward_wei, at_risk_wei)
    if lost == 0:
        return 1  # without pay there is nothing to gain
    return min(EVERY_TIME_PPM, COST_PERCENT * reward_wei * EVERY_TIME_PPM // lost + 1)


def counted_loss_percent(reward_wei: int, at_risk_wei: int) -> int:
    """What the rates count an audit to cost a cheat that it exposes, in hundredths."""
    return (100 - COLLUDING_PERCENT) * at_risk_wei + (100 - 2 * COLLUDING_PERCENT) * reward_wei


def reward_wei(job: Job, steps: int) -> int:
    """What ``steps`` of accepted work earn in samples."""
    return steps * job.training.share_samples * job.pay.price_wei_per_sample * PaySplit().samples // 100


@dataclass(frozen=True, slots=True)
class AuditRate:
    """A worker's rate in parts per million, and why, in words."""

    ppm: int
    why: str


def audit_rate(standing: Standing, reward: int, at_risk_wei: int, floor_ppm: int, *, decided: bool = True) -> AuditRate:
    """The highest of what its audits have shown, what its stake asks for, and the network's floor.

    Not ``decided``: no difference in its work can be proven, since its hardware class cannot be made. What differs is
    void then, so that nothing that is held back is at risk.
    """
    by_audits, by_stake = least_rate_ppm(standing), break_even_ppm(reward, at_risk_wei if decided else 0)
    if not standing.proven:
        voids = f", {standing.voids} times void since" if standing.voids else ""
        return AuditRate(EVERY_TIME_PPM, f"newcomers are audited every time{voids}")
    if standing.lean.crossed:
        return AuditRate(EVERY_TIME_PPM, "its audits lean to one side more than chance and classes explain")
    ppm = max(by_audits, by_stake, floor_ppm)
    if ppm == by_stake and not decided:
        return AuditRate(
            ppm,
            "the verifier does not make its hardware class, so what differs is void, and nothing held back is at risk",
        )
    if ppm == by_audits and by_audits > by_stake:
        return AuditRate(ppm, f"accepted audits so far: {standing.audits}; each further one lowers it")
    if ppm == by_stake:
        risk = f"{at_risk_wei / reward:.1f} rounds' pay" if reward else f"{at_risk_wei} wei"
        return AuditRate(
            ppm, f"held back and at risk: {risk}; the more, the rarer the audits that make cheating a loss"
        )
    return AuditRate(ppm, "the network's lowest rate")


def check_rates(records: Iterable[Record], job: Job, held_back_limit_wei: int) -> list[int]:
    """All sealed rates, each no lower than the most that its node can have had at risk by then asks for.

    Raises ``RefusedError`` with the first that is lower: whoever sealed it favoured that worker.
    """
    collector, rulings, places = RoundCollector(), RulingCollector(), dict[str, int]()
    earned: dict[str, int] = {}
    opened: Open | None = None
    rates: list[int] = []
    for record in records:
        opened = record.body if isinstance(record.body, Open) else opened
        if isinstance(record.body, Seal) and opened is not None:
            for item, rate_ppm in zip(record.body.commitments, record.body.rates_ppm, strict=True):
                at_risk_wei = min(held_back_limit_wei, earned.get(item.node, 0))
                reward = reward_wei(job, opened.members[item.slot].quota_steps)
                least = break_even_ppm(reward, at_risk_wei)
                if rate_ppm < least:
                    raise RefusedError(
                        f"round {record.body.round}, slot {item.slot}: sealed with an audit rate of {rate_ppm} ppm, "
                        f"and its stake of at most {at_risk_wei} wei asks for {least} ppm"
                    )
            rates += record.body.rates_ppm
        ruled = rulings.add(record)
        if ruled is not None:
            node = ruled.ruling.node
            back = sum(credit.amount_wei for credit in ruling_credits(job, ruled, VERIFIER_INDEX + 1))
            earned[node] = earned.get(node, 0) + back
        judged = collector.add(record)
        if judged is not None:
            for node in judged.paid_nodes:
                places.setdefault(node, len(places))
            names = {place: node for node, place in places.items()}
            for credit in round_credits(job, judged, places, VERIFIER_INDEX):
                if credit.node_index in names:
                    name = names[credit.node_index]
                    earned[name] = earned.get(name, 0) + credit.amount_wei
    return rates
