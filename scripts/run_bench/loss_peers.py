"""The other side of the bench `loss`: large-batch AdamW and DiLoCo as published, in plain PyTorch, float32.

DiLoCo: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023. Every worker keeps
its own AdamW moments from round to round; the mean of the parameter changes goes through Nesterov SGD.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from loss_settings import BATCH_SIZE, PEERS, STEPS, WARMUP_STEPS, Rates, Setting
from loss_world import World
from torch import Tensor, nn

from anynode.jobs.templates import gpt

BETAS, WEIGHT_DECAY, CLIP_NORM, RATE_FLOOR = (0.9, 0.99), 0.1, 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """After some step: samples used by all workers, bytes that one peer has sent, the shared weights by name."""

    samples: int
    sent_bytes: int
    weights: Mapping[str, Tensor]


def large_batch(world: World, _: Setting, rates: Rates, seed: int) -> Iterator[Progress]:
    """AdamW on the union of all workers' batches: gradients averaged at every step, by a float32 ring all-reduce."""
    model = world.module(world.initial(seed))
    optimizer = _adamw(model, rates)
    step_bytes = all_reduce_bytes(world.parameters)
    size = BATCH_SIZE * PEERS
    for step in range(STEPS):
        _step(model, optimizer, world.batch(world.at(seed, step * size, (step + 1) * size)), rate_at(rates, step))
        yield Progress((step + 1) * size, (step + 1) * step_bytes, dict(model.named_parameters()))


def diloco(world: World, setting: Setting, rates: Rates, seed: int) -> Iterator[Progress]:
    """Workers with private moments, and pseudo-gradients averaged in float32 after every ``inner_steps``."""
    shared = world.module(world.initial(seed))
    outer = torch.optim.SGD(
        shared.parameters(), lr=rates.outer[0], momentum=rates.outer[1], nesterov=rates.outer[1] > 0
    )
    workers = [world.module(world.initial(seed)) for _ in range(PEERS)]
    optimizers = [_adamw(worker, rates) for worker in workers]
    inner, size = setting.inner_steps, setting.inner_steps * BATCH_SIZE
    for round_ in range(setting.rounds):
        for slot, (worker, optimizer) in enumerate(zip(workers, optimizers, strict=True)):
            worker.load_state_dict(shared.state_dict())
            start = (round_ * PEERS + slot) * size
            indices = world.at(seed, start, start + size)
            for step in range(inner):
                batch = world.batch(indices[step * BATCH_SIZE : (step + 1) * BATCH_SIZE])
                _step(worker, optimizer, batch, rate_at(rates, round_ * inner + step))
        with torch.no_grad():
            for target, *sources in zip(shared.parameters(), *(w.parameters() for w in workers), strict=True):
                target.grad = target - torch.stack(list(sources)).mean(dim=0)
        outer.step()
        sent_bytes = (round_ + 1) * all_reduce_bytes(world.parameters)
        yield Progress((round_ + 1) * PEERS * size, sent_bytes, dict(shared.named_parameters()))


def all_reduce_bytes(parameters: int) -> int:
    """What one of ``PEERS`` sends in a ring all-reduce of float32 values: nobody can send less without compressing."""
    return 2 * (PEERS - 1) * 4 * parameters // PEERS


def rate_at(rates: Rates, step: int) -> float:
    """Linear warm-up and a cosine to a tenth, as in a job's settings."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / STEPS))
    return rates.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS) * (RATE_FLOOR + (1.0 - RATE_FLOOR) * cosine)


def _adamw(model: nn.Module, rates: Rates) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=rates.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    torch.autograd.backward(gpt.next_byte_loss(model, batch))
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
