"""What every side of the bench `links` computes: the same model, data, batch, optimizer and number of threads.

A side's program in each home is started with a `Task` as its only argument and says a line of JSON on stdout after
each round (`Rounds`); `links_sides.py` starts it and reads them.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from anynode.jobs.templates.gpt import ByteGPT, next_byte_loss

CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The model and the batch of one inner step of one peer."""

    width: int
    layers: int
    heads: int
    context: int
    batch: int

    @property
    def step_tokens(self) -> int:
        return self.batch * self.context


@dataclass(frozen=True, slots=True)
class Task:
    """What one peer of a side is to do. ``meeting`` is where the peers find each other, in the side's own words;
    ``overlap`` hides averaging behind the next steps, where a side can.
    """

    shape: Shape
    shard: str
    peers: int
    rank: int
    address: str
    inner_steps: int
    steps_per_s_max: float
    overlap: bool = False
    meeting: str = ""

    @classmethod
    def read(cls) -> Task:
        raw = json.loads(sys.argv[1])
        return cls(**{**raw, "shape": Shape(**raw["shape"])})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def at(self, rank: int, address: str, meeting: str) -> Task:
        return replace(self, rank=rank, address=address, meeting=meeting)


class Training:
    """The model of one peer with its data, and the seconds that computing took.

    Steps are held to one rate on all sides, as by `anynode join --steps-per-s-max`: the peers stand for machines of
    their own, which do not get slower because a neighbour computes. Being held counts as computing.
    """

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)  # every peer begins with the same parameters
        shape = task.shape
        self.model = ByteGPT(shape.width, shape.layers, shape.heads, shape.context)
        self.compute_s = 0.0
        self._step_s_min = 1 / task.steps_per_s_max
        self._batches = self._endless(task)

    def optimizer(self, params: Any) -> torch.optim.Optimizer:
        """The inner optimizer, with AnyNode's defaults."""
        return torch.optim.AdamW(params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def gradients(self, module: nn.Module) -> float:
        """Forward, backward and clipping of one batch, no faster than the rate allows; the seconds it took."""
        began_s = time.perf_counter()
        module.zero_grad()
        torch.autograd.backward(next_byte_loss(module, {"tokens": next(self._batches)}))
        nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
        time.sleep(max(0.0, began_s + self._step_s_min - time.perf_counter()))
        took_s = time.perf_counter() - began_s
        self.compute_s += took_s
        return took_s

    @staticmethod
    def _endless(task: Task) -> Iterator[Tensor]:
        with safe_open(task.shard, framework="pt") as shard:
            tokens = shard.get_tensor("tokens")
        generator = torch.Generator().manual_seed(task.rank)
        size = task.shape.batch
        for _ in itertools.count():
            order = torch.randperm(len(tokens), generator=generator)
            for start in range(0, len(order) - size + 1, size):
                yield tokens[order[start : start + size]]


class Rounds:
    """Says on stdout what a peer has done since it last said so."""

    def __init__(self, training: Training) -> None:
        self._training, self._said_s, self._number = training, 0.0, 0

    def say(self, steps: int, compute_s: float | None = None) -> None:
        """A round of ``steps`` steps has ended. ``compute_s`` overrides what `Training` has measured."""
        measured_s = self._training.compute_s - self._said_s
        tell(round=self._number, steps=steps, compute_s=measured_s if compute_s is None else compute_s)
        self._said_s, self._number = self._training.compute_s, self._number + 1


def wait_for_all() -> None:
    """Say that this peer is ready, and wait until all are: nobody begins alone."""
    tell(ready=True)
    sys.stdin.readline()


def tell(**facts: object) -> None:
    """One line of JSON for the bench."""
    print(json.dumps(facts), flush=True)
