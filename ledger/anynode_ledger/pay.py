"""What a round earns whom: integer shares of the job's price. Pure.

The unit is a verified sample. A round's pot is the sum over its accepted members of samples x delivered share x
price; the job's split divides it between samples, audits and reducing. Everything is rounded down, and what is
left stays with the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from anynode_contracts.errors import invariant
from anynode_contracts.pay_split import PaySplit

CreditKind = Literal["samples", "audit", "reducing"]

SAMPLES_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Credit:
    """What one node earned in one round of one job, for one kind of work. ``id`` makes it unique for ever."""

    id: str
    job_id: str
    round: int
    node_index: int
    kind: CreditKind
    amount_wei: int


@dataclass(frozen=True, slots=True)
class MemberWork:
    """An accepted member's round. Leave rejected members out: they earn nothing.

    ``chunks_due`` is 0 when there was nobody to deliver to, which counts as delivered.
    """

    node_index: int
    samples: int
    chunks_delivered: int
    chunks_due: int
    bytes_reduced: int


def credit_id(job_id: str, round_number: int, node_index: int, kind: CreditKind) -> str:
    """The id under which this work can be credited once."""
    return f"{job_id}/{round_number}/{node_index}/{kind}"


def round_pay(
    job_id: str,
    round_number: int,
    price_wei_per_million_samples: int,
    members: Sequence[MemberWork],
    auditors: Mapping[int, int],
    *,
    split: PaySplit | None = None,
) -> list[Credit]:
    """The credits of one round, in order of node index.

    ``auditors`` maps node index -> weight (recomputed steps, say); the audit share is divided by it, the reducing
    share by bytes. Never pays more than the pot; what rounding or an empty share leaves over stays with the job.
    """
    split = split or PaySplit()
    invariant(price_wei_per_million_samples >= 0, "a price is not negative")
    indices = [member.node_index for member in members]
    invariant(len(set(indices)) == len(indices), "a member is listed twice in one round")
    pots = {member.node_index: _pot_wei(member, price_wei_per_million_samples) for member in members}
    pot = sum(pots.values())
    amounts: dict[tuple[int, CreditKind], int] = {}
    for index, own in pots.items():
        amounts[index, "samples"] = own * split.samples // 100
    for index, amount in divide(pot * split.audits // 100, auditors).items():
        amounts[index, "audit"] = amount
    reduced = {member.node_index: member.bytes_reduced for member in members}
    for index, amount in divide(pot * split.reducing // 100, reduced).items():
        amounts[index, "reducing"] = amount
    return [
        Credit(credit_id(job_id, round_number, index, kind), job_id, round_number, index, kind, amount)
        for (index, kind), amount in sorted(amounts.items())
        if amount > 0
    ]


def granted_pay(
    job_id: str,
    round_number: int,
    price_wei_per_million_samples: int,
    member: MemberWork,
    *,
    split: PaySplit | None = None,
) -> list[Credit]:
    """The credits of a member whose work is accepted after an appeal, beside what its round has paid the others.

    For reducing it gets that share of its own pot: the whole share of the round has been divided without it.
    """
    split = split or PaySplit()
    pot = _pot_wei(member, price_wei_per_million_samples)
    index, reduced = member.node_index, member.bytes_reduced > 0
    amounts: dict[CreditKind, int] = {
        "reducing": pot * split.reducing // 100 if reduced else 0,
        "samples": pot * split.samples // 100,
    }
    return [
        Credit(credit_id(job_id, round_number, index, kind), job_id, round_number, index, kind, amount)
        for kind, amount in amounts.items()
        if amount > 0
    ]


def replay_pay(samples: int, price_wei_per_million_samples: int, *, split: PaySplit | None = None) -> int:
    """What the replay of an appeal that was upheld is worth, in wei: as much as doing the work is paid."""
    split = split or PaySplit()
    return samples * price_wei_per_million_samples * split.samples // (SAMPLES_PER_PRICE * 100)


def divide(amount_wei: int, weights: Mapping[int, int]) -> dict[int, int]:
    """``amount_wei`` by weight, each part rounded down; nothing at all when the weights are all zero."""
    invariant(all(weight >= 0 for weight in weights.values()), "a weight is not negative")
    total = sum(weights.values())
    if total == 0:
        return {}
    return {key: amount_wei * weight // total for key, weight in weights.items()}


def _pot_wei(member: MemberWork, price_wei_per_million_samples: int) -> int:
    invariant(member.samples >= 0 and member.bytes_reduced >= 0, "a member's counts are not negative")
    invariant(0 <= member.chunks_delivered <= member.chunks_due, "more chunks delivered than were due")
    delivered, due = (member.chunks_delivered, member.chunks_due) if member.chunks_due else (1, 1)
    return member.samples * delivered * price_wei_per_million_samples // (SAMPLES_PER_PRICE * due)
