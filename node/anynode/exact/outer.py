"""The outer step: from S_r and the round's averaged chunks to S_r+1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anynode.exact.arithmetic import nesterov_
from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.exact.reduce import ExchangeRules
from anynode.exact.state import State
from anynode_contracts.errors import RefusedError


@dataclass(frozen=True, slots=True)
class OuterRules:
    """The job's settings of the outer step: Nesterov ``learning_rate`` and ``momentum``, and how chunks are
    coded.
    """

    learning_rate: float
    momentum: float
    exchange: ExchangeRules


@dataclass(frozen=True, slots=True)
class NextRound:
    """The fields of S_r+1 that dealing decides: the round's number and the pool that is left."""

    round: int
    cursor: int
    returned: tuple[tuple[int, int], ...]


def apply_round(
    state: State,
    results: Iterable[bytes] | None,
    rules: OuterRules,
    *,
    refresh: bool,
    steps_advance: int,
    after: NextRound,
) -> State:
    """S_r+1. **Consumes** ``state``: its tensors are written to and live on in the result, so no copy is
    held.

    ``results`` are the payloads of ``chunk_specs`` in order (a generator keeps memory flat), or ``None`` for
    a void round, which leaves parameters, momentum, moments and step as they are. Raises ``RefusedError`` for
    a payload that is malformed or missing; ``state`` is then spent and must be loaded again.
    """
    if results is None:
        return _numbered(state, 0, after)
    if refresh and not state.has_moments:
        state = replace(state, m=torch.zeros_like(state.params), v=torch.zeros_like(state.params))
    for spec, values in averaged(results, chunk_specs(state.layout.values, refresh), rules.exchange):
        _apply_chunk(state, spec, values, rules)
    return _numbered(state, steps_advance, after)


def averaged(
    results: Iterable[bytes], specs: Sequence[ChunkSpec], rules: ExchangeRules
) -> Iterator[tuple[ChunkSpec, Tensor]]:
    """The round's results, checked and decoded one by one. Raises ``RefusedError`` when one is malformed, missing or
    too many.
    """
    left = iter(results)
    for spec in specs:
        payload = next(left, None)
        if payload is None:
            raise RefusedError(f"the round's result for chunk {spec.index} is missing; fetch it from its reducer")
        yield spec, rules.codec(spec.section).parse(payload, spec.count).values()
    if next(left, None) is not None:
        raise RefusedError("the round has more results than chunks; ask the coordinator for its records again")


def _apply_chunk(state: State, spec: ChunkSpec, values: Tensor, rules: OuterRules) -> None:
    here = slice(spec.start, spec.start + spec.count)
    if spec.section == "delta":
        nesterov_(
            state.params[here],
            state.momentum[here],
            values,
            learning_rate=rules.learning_rate,
            decay=rules.momentum,
        )
    else:
        state.v[here] = values * values


def _numbered(state: State, steps: int, after: NextRound) -> State:
    return replace(state, step=state.step + steps, round=after.round, cursor=after.cursor, returned=after.returned)
