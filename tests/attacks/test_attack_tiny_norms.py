"""Tiny-norm identities that pull the clip down."""

from __future__ import annotations

import torch
from attack import Attack, Expect, Finding

from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk

ATTACK = Attack(
    "tiny norms pull the clip down",
    "Many throw-away identities send updates next to nothing, so that the median norm clips honest work away.",
    "prevented",
)
VALUES, HONEST, IDENTITIES = 4_096, 3, 40


def contributed(rules: ExchangeRules, spec: ChunkSpec, slot: int, size: float, *, weight: bool) -> Contribution:
    values = size * torch.randn(spec.count, generator=torch.Generator().manual_seed(slot))
    return Contribution(slot, rules.codec(spec.section).encode(values), 8, 4, weight)


def test_newcomers_do_not_count_in_the_median(expect: Expect) -> None:
    """Without an accepted audit an identity has no weight; with one it has done true work, whose norm is what it is."""
    rules, spec = ExchangeRules(bits=4, block=128), chunk_specs(VALUES, False)[0]
    honest = [contributed(rules, spec, slot, 1.0, weight=True) for slot in range(HONEST)]
    tiny = [contributed(rules, spec, HONEST + n, 1e-6, weight=False) for n in range(IDENTITIES)]
    alone = reduce_chunk(spec, honest, rules)
    assert reduce_chunk(spec, [*honest, *tiny], rules) == alone
    weighed = [contributed(rules, spec, HONEST + n, 1e-6, weight=True) for n in range(IDENTITIES)]
    assert reduce_chunk(spec, [*honest, *weighed], rules) != alone, "with weight they would have pulled it down"
    expect(Finding("prevented", f"{IDENTITIES} weightless identities change no bit of the average"))
