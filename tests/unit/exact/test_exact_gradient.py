"""Gradient mode: workers, reducer and exact step together equal PyTorch's optimizer on the union of their batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from exact_inputs import spread
from torch import Tensor

from anynode.exact.gradient import GradientRules, adamw_, apply_gradient_round, clip_, sgd_
from anynode.exact.layout import EXCHANGE_VALUES, chunk_specs
from anynode.exact.outer import NextRound
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk, weighted_mean
from anynode.exact.state import State
from anynode.exact.update import MeanGradient, UpdatePlace, build_update
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError

SAMPLES = (24, 8, 40)  # what each worker has done: quotas differ
WIDTH, ROUNDS = 12, 8
ADAMW = GradientRules("adamw", 0.9, 0.99, 1e-8, 0.9, 0.1, 0.5, ExchangeRules(32, 128, gradients=True))
SGD = replace(ADAMW, optimizer="sgd", weight_decay=0.01)


def rate_of(number: int) -> float:
    return 0.02 * min(1.0, (number + 1) / 3) * (1.0 - number / 20)


def loss_of(params: Tensor, rows: Tensor) -> Tensor:
    """The mean over rows [n, WIDTH] of something curved in ``params`` [values], the same at every size."""
    first, second = params[: WIDTH * WIDTH].view(WIDTH, WIDTH), params[WIDTH * WIDTH :]
    return ((torch.tanh(rows @ first) @ second - rows.sum(1)) ** 2).mean()


def rows_of(number: int, worker: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(100 * number + worker)
    return torch.randn(SAMPLES[worker], WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def gradient_of(params: Tensor, rows: Tensor) -> Tensor:
    leaf = params.detach().clone().requires_grad_()
    loss_of(leaf, rows).backward()
    assert leaf.grad is not None
    return leaf.grad


def start(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(WIDTH * WIDTH + WIDTH, generator=generator, dtype=torch.float64).mul_(0.3).to(dtype)


def torch_optimizer(rules: GradientRules, params: Tensor) -> torch.optim.Optimizer:
    if rules.optimizer == "sgd":
        return torch.optim.SGD([params], lr=1.0, momentum=rules.momentum, weight_decay=rules.weight_decay)
    betas = rules.beta1, rules.beta2
    return torch.optim.AdamW([params], lr=1.0, betas=betas, eps=rules.eps, weight_decay=rules.weight_decay)


def on_the_union(rules: GradientRules, dtype: torch.dtype) -> list[Tensor]:
    """The parameters after each step of ``torch.optim`` on all workers' samples as one batch."""
    params, seen = start(dtype).requires_grad_(), []
    optimizer = torch_optimizer(rules, params)
    for number in range(ROUNDS):
        optimizer.zero_grad()
        loss_of(params, torch.cat([rows_of(number, worker, dtype) for worker in range(len(SAMPLES))])).backward()
        if rules.clip_norm:
            torch.nn.utils.clip_grad_norm_([params], rules.clip_norm)
        optimizer.param_groups[0]["lr"] = rate_of(number)
        optimizer.step()
        seen.append(params.detach().clone())
    return seen


def by_vectors(rules: GradientRules, dtype: torch.dtype) -> list[Tensor]:
    """The same by the exact functions alone, in any type."""
    params, seen = start(dtype), []
    m, v, momentum = (torch.zeros_like(params) for _ in range(3))
    for number in range(ROUNDS):
        gradient = weighted_mean(
            (gradient_of(params, rows_of(number, worker, dtype)), samples / sum(SAMPLES))
            for worker, samples in enumerate(SAMPLES)
        )
        clip_(gradient, rules.clip_norm)
        if rules.optimizer == "adamw":
            adamw_(params, m, v, gradient, step=number + 1, learning_rate=rate_of(number), rules=rules)
        else:
            sgd_(params, momentum, gradient, learning_rate=rate_of(number), rules=rules)
        seen.append(params.clone())
    return seen


def by_updates(rules: GradientRules) -> list[Tensor]:
    """The same with everything that goes over the wire, from state to state."""
    state, seen = State.initial("ab" * 32, {"w": start(torch.float32)}), []
    for number in range(ROUNDS):
        blobs: dict[str, bytes] = {}
        items = []
        for worker, samples in enumerate(SAMPLES):
            gradient = gradient_of(state.params, rows_of(number, worker, torch.float32))
            place = UpdatePlace(state.job_id, state.round, worker, refresh=False)
            done = MeanGradient(gradient, steps=samples // 8, samples=samples)
            manifest = build_update(done, place, rules.exchange, keep_in(blobs))
            items.append(Contribution(worker, blobs[manifest.chunks[0].hash], samples, samples // 8))
        (spec,) = chunk_specs(state.layout.values, refresh=False)
        result = reduce_chunk(spec, items, rules.exchange)
        after = NextRound(number + 1, (number + 1) * sum(SAMPLES), ())
        state = apply_gradient_round(state, [result], rules, learning_rate=rate_of(number), after=after)
        assert (state.step, state.round) == (number + 1, number + 1)
        seen.append(state.params.clone())
    return seen


def keep_in(blobs: dict[str, bytes]) -> Callable[[bytes], str]:
    def keep(data: bytes) -> str:
        blobs[hash_hex(data)] = data
        return hash_hex(data)

    return keep


def drifts_rel(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    """The largest difference after each step over the size of the parameters."""
    return [
        float((mine.double() - other.double()).norm() / other.double().norm())
        for mine, other in zip(ours, theirs, strict=True)
    ]


@pytest.mark.parametrize("rules", [ADAMW, replace(ADAMW, clip_norm=0.0), SGD, replace(SGD, clip_norm=0.0)], ids=str)
def test_unquantised_it_equals_torch_on_the_union_batch(rules: GradientRules) -> None:
    in_float64 = drifts_rel(by_vectors(rules, torch.float64), on_the_union(rules, torch.float64))
    assert max(in_float64) < 1e-12, in_float64
    in_float32 = drifts_rel(by_vectors(rules, torch.float32), on_the_union(rules, torch.float32))
    assert all(drift < 1e-6 * (number + 1) for number, drift in enumerate(in_float32)), in_float32
    over_the_wire = drifts_rel(by_updates(rules), on_the_union(rules, torch.float32))
    assert all(drift < 1e-6 * (number + 1) for number, drift in enumerate(over_the_wire)), over_the_wire


def test_clipping_is_that_of_the_whole_gradient() -> None:
    values = spread(EXCHANGE_VALUES + 999, 3)
    norm = float(values.double().norm())
    kept, clipped = values.clone(), values.clone()
    assert clip_(kept, 0.0) == pytest.approx(norm, rel=1e-12)
    assert kept.equal(values)
    clip_(clipped, norm / 4)
    assert float(clipped.double().norm()) == pytest.approx(norm / 4, rel=1e-6)
    clip_(kept, norm * 2)
    assert kept.equal(values)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantised_it_goes_the_same_way(bits: int) -> None:
    rules = replace(ADAMW, exchange=ExchangeRules(bits, 128, gradients=True))
    last, exact = by_updates(rules)[-1], by_updates(ADAMW)[-1]
    moved = (exact - start(torch.float32)).norm()
    assert float((last - exact).norm() / moved) < {4: 0.5, 8: 0.05, 16: 0.001}[bits]


def test_a_large_gradient_counts_in_full_and_no_step_count_multiplies() -> None:
    rules = ExchangeRules(32, 128, gradients=True)
    (spec,) = chunk_specs(300, refresh=False)
    rows = [spread(300, worker) * (1_000.0 if worker == 3 else 1.0) for worker in range(4)]
    items = [Contribution(w, rules.codec("delta").encode(row), 10, 5 + w) for w, row in enumerate(rows)]
    mean = rules.codec("delta").parse(reduce_chunk(spec, items, rules), 300).values()
    assert torch.allclose(mean.double(), torch.stack(rows).double().mean(0), rtol=1e-5, atol=1e-6)


def test_a_void_round_changes_nothing_and_a_missing_result_is_refused() -> None:
    state = State.initial("ab" * 32, {"w": start(torch.float32)})
    void = apply_gradient_round(state, None, ADAMW, learning_rate=0.1, after=NextRound(1, 5, ((0, 5),)))
    assert void.params.equal(start(torch.float32))
    assert (void.step, void.round, void.cursor, void.returned) == (0, 1, 5, ((0, 5),))
    with pytest.raises(RefusedError, match="missing"):
        apply_gradient_round(state, [], ADAMW, learning_rate=0.1, after=NextRound(1, 5, ()))
