"""The inner optimizers beside those of torch, from the same moments; schedules and warm-ups."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from line_job import initial_state, workload
from torch import Tensor

from anynode.exact.state import State
from anynode.jobs.settings import Training
from anynode.training.optimizers import inner_optimizer
from anynode.training.schedule import inner_warmup, learning_rate

STEPS = 20


def gradient(step: int, values: int) -> Tensor:
    """Small ones, and every third one so large that it is clipped."""
    return torch.cos(torch.arange(values) * 0.37 + step) * (0.01 if step % 3 else 1.0)


def state_with_moments(step: int) -> State:
    plain = initial_state()
    m = torch.sin(torch.arange(plain.layout.values) * 0.11) * 0.01
    v = torch.cos(torch.arange(plain.layout.values) * 0.07) ** 2 * 0.001
    return State(plain.job_id, plain.layout, plain.params, plain.momentum, m, v, step=step)


def theirs(settings: Training, params: Tensor, state: State) -> torch.optim.Optimizer:
    """PyTorch's optimizer as it would be had it seen what the state says."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD([params], momentum=settings.inner_momentum, weight_decay=settings.weight_decay)
    betas = (settings.beta1, settings.beta2)
    made = torch.optim.AdamW([params], betas=betas, eps=settings.eps, weight_decay=settings.weight_decay)
    if settings.optimizer == "adamw":
        seen = {
            "step": torch.tensor(float(state.step)),
            "exp_avg": torch.zeros_like(state.m),
            "exp_avg_sq": state.v.clone(),
        }
        made.state[params].update(seen)
    return made


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fresh", "sgd"])
def test_it_is_the_optimizer_of_torch(optimizer: str, clip_norm: float) -> None:
    settings = workload(optimizer=optimizer, weight_decay=0.1, clip_norm=clip_norm).settings
    state = state_with_moments(40)
    ours, other = state.params.clone(), state.params.clone().requires_grad_()
    mine, reference = inner_optimizer(ours, state, settings), theirs(settings, other, state)
    for step in range(STEPS):
        slope, rate = gradient(step, ours.numel()), 0.01 / (step + 1)
        other.grad = slope.clone()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([other], clip_norm)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        mine.step(slope, rate)
    assert torch.allclose(ours, other.detach(), rtol=1e-5, atol=1e-7)
    assert state.v.equal(state_with_moments(40).v), "the state itself is not written to"


def matrix_state() -> State:
    """An embedding, a tall and a wide matrix, and a vector, with published second moments."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"bias": (7,), "embedding": (9, 4), "tall": (12, 5), "wide": (4, 10)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    plain = State.initial("ab" * 32, tensors)
    v = torch.rand(plain.layout.values, generator=generator) * 0.001
    return replace(plain, m=torch.zeros_like(v), v=v, step=40)


def muon(**changes: object) -> Training:
    return workload(optimizer="muon", muon_except=("embedding",), **changes).settings


def test_hidden_matrices_take_the_steps_of_muon() -> None:
    settings, state = muon(weight_decay=0.1, clip_norm=0.0, muon_rms=0.2), matrix_state()
    ours = state.params.clone()
    others = {name: state.parameters()[name].clone().requires_grad_() for name in ("tall", "wide")}
    reference = torch.optim.Muon(
        others.values(),
        weight_decay=0.1,
        momentum=settings.inner_momentum,
        nesterov=False,
        adjust_lr_fn="match_rms_adamw",
    )
    mine = inner_optimizer(ours, state, settings)
    generator = torch.Generator().manual_seed(6)
    for step in range(STEPS):
        slope, rate = torch.randn(ours.numel(), generator=generator), 0.01 / (step + 1)
        for name, other in others.items():
            other.grad = state.layout.views(slope)[name].clone()
        reference.param_groups[0]["lr"] = rate
        reference.step()
        mine.step(slope, rate)
    for name, other in others.items():
        moved, theirs_moved = (
            end - state.parameters()[name] for end in (state.layout.views(ours)[name], other.detach())
        )
        assert float((moved - theirs_moved).norm() / moved.norm()) < 0.02, "theirs iterates in bfloat16"


def test_beside_muon_adamw_goes_on_from_the_second_moment_with_a_first_moment_of_its_round() -> None:
    settings, state = muon(weight_decay=0.1, clip_norm=0.0), matrix_state()
    ours, steps = state.params.clone(), range(1, STEPS + 1)
    mine = inner_optimizer(ours, state, settings)
    weight, v = (state.layout.views(vector)["embedding"].clone() for vector in (state.params, state.v))
    m = torch.zeros_like(v)
    generator = torch.Generator().manual_seed(7)
    for step in steps:
        slope = torch.randn(ours.numel(), generator=generator) * 0.02
        mine_slope = state.layout.views(slope.clone())["embedding"]
        mine.step(slope, 0.01)
        m = settings.beta1 * m + (1 - settings.beta1) * mine_slope
        v = settings.beta2 * v + (1 - settings.beta2) * mine_slope**2
        m_hat, v_hat = m / (1 - settings.beta1**step), v / (1 - settings.beta2 ** (state.step + step))
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * m_hat / (v_hat.sqrt() + settings.eps)
    assert torch.allclose(state.layout.views(ours)["embedding"], weight, rtol=1e-4, atol=1e-6)
    assert state.layout.views(mine.vectors[1])["tall"].equal(state.layout.views(state.v)["tall"])


def test_muon_goes_on_within_a_round_with_equal_bits() -> None:
    settings, state = muon(), matrix_state()
    slopes = [gradient(step, state.layout.values) for step in range(8)]
    whole = state.params.clone()
    first = inner_optimizer(whole, state, settings)
    for number, slope in enumerate(slopes):
        if number == 5:
            part, between = whole.clone(), [vector.clone() for vector in first.vectors]
        first.step(slope.clone(), 0.01)
    second = inner_optimizer(part, state, settings)
    for vector, value in zip(second.vectors, between, strict=True):
        vector.copy_(value)
    second.resume(5)
    for slope in slopes[5:]:
        second.step(slope.clone(), 0.01)
    assert part.equal(whole)


def test_without_published_moments_adamw_starts_at_zero() -> None:
    settings = workload().settings
    assert all(not vector.any() for vector in inner_optimizer(torch.ones(3), initial_state(), settings).vectors)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_warms_up_and_follows_its_schedule(schedule: str) -> None:
    settings = workload(schedule=schedule, warmup_steps=10, total_steps=100, min_lr_ratio=0.1).settings
    rates = [learning_rate(settings, step) for step in range(120)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] == pytest.approx(0.002, rel=1e-3)
    for step in range(10, 120):
        gone = min(step, 100) / 100
        left = {
            "cosine": 0.1 + 0.9 * (1 + math.cos(math.pi * gone)) / 2,
            "linear": 1.0 - 0.9 * gone,
            "constant": 1.0,
        }[schedule]
        assert rates[step] == pytest.approx(0.02 * left, rel=1e-12)


def test_a_fresh_optimizer_warms_up_in_each_round() -> None:
    settings = workload(optimizer="adamw-fresh", inner_warmup_steps=4).settings
    assert [inner_warmup(settings, step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert inner_warmup(workload(inner_warmup_steps=4).settings, 0) == 1.0
