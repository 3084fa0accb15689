"""The job runtime, a graph read from JSON, against the original nn.Module: forward, backward and step."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from plain_loop import PlainLoop
from report import Goal, Report, Say
from torch import Tensor, nn

from anynode.exact.state import State
from anynode.jobs.export import Exportable, export
from anynode.jobs.settings import Training
from anynode.jobs.templates import convnet, gpt
from anynode.jobs.weights import load_model
from anynode.training.gradients import Gradients, Place
from anynode.training.optimizers import inner_optimizer

PAIRS = 15
PAIR_S = 0.7
RATE = 1e-3
SETTINGS = Training(batch_size=1, inner_steps=50, rounds=1, learning_rate=RATE, total_steps=1000)


@dataclass(frozen=True)
class Case:
    """A template, the module that it is made of, and the module's loss."""

    name: str
    made: Exportable
    module: nn.Module
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]


class Runtime:
    """The job runtime as a trainer uses it: graph from ``model.json``, flat gradient, flat optimizer."""

    def __init__(self, folder: Path) -> None:
        model = load_model(folder)
        state = State.initial("00" * 32, model.parameters)
        self.params, self.layout = state.params.clone(), state.layout
        self.gradients = Gradients(model.graph.loss, state.layout, self.params, Place())
        self._optimizer = inner_optimizer(self.params, state, SETTINGS)
        self._size = model.graph.batch_size

    def slope(self, batch: dict[str, Tensor]) -> float:
        return self.gradients.mean(batch, self._size)

    def step(self, batch: dict[str, Tensor]) -> None:
        self.slope(batch)
        self._optimizer.step(self.gradients.flat, RATE)


def measure(deep: bool, say: Say) -> Report:
    """Steps of both sides in turn, one thread each, in this process; the ratio of each pair, and their median."""
    torch.set_num_threads(1)
    rows, ratios, equal = [], [], True
    for case in _cases():
        with tempfile.TemporaryDirectory() as folder:
            export(*case.made, Path(folder))
            runtime = Runtime(Path(folder))
        plain = PlainLoop(case.module, case.loss, SETTINGS)
        equal = equal and _bits_equal(case, runtime, plain)
        pairs = _pairs(case, runtime, plain, PAIRS * (4 if deep else 1))
        ratio = statistics.median(module_s / graph_s for graph_s, module_s in pairs)
        ratios.append(ratio)
        graph_ms, module_ms = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
        rows.append((case.name, graph_ms, module_ms, ratio))
        say(f"{case.name}: {graph_ms:.1f} ms a step as a job, {module_ms:.1f} ms as a module")
    return Report(
        keys={"speed_ratio": min(ratios), "bit_equal": equal},
        goals=(Goal("speed_ratio", ">=", 0.98), Goal("bit_equal", "==", True)),
        columns=("model", "job runtime, ms a step", "nn.Module, ms a step", "ratio"),
        rows=rows,
        notes=(
            "bit_equal: loss and every gradient of three batches. The module is stepped by clip_grad_norm_ and "
            "torch.optim.AdamW(fused=True), on one thread, as the job is.",
        ),
    )


def _cases() -> list[Case]:
    bytes_, images = gpt.build(), convnet.build()
    transformer = gpt.ByteGPT(128, 5, 4, 64)
    network = convnet.network(32, 3, 3, 10)
    for module, made in ((transformer, bytes_), (network, images)):
        module.load_state_dict(made.params)
    return [
        Case("GPT, 1.07M parameters", bytes_, transformer, gpt.next_byte_loss),
        Case("residual ConvNet, 32x32 images", images, network, convnet.image_loss),
    ]


def _batch(case: Case, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, 10 if name == "label" else 256, column.shape, generator=generator).to(column.dtype)
        for name, column in case.made.example_batch.items()
    }


def _bits_equal(case: Case, runtime: Runtime, plain: PlainLoop) -> bool:
    for seed in range(3):
        batch = _batch(case, seed)
        views = runtime.layout.views(runtime.gradients.flat)
        if runtime.slope(batch) != float(plain.slope(batch)):
            return False
        for name, parameter in plain.module.named_parameters():
            if parameter.grad is None or not torch.equal(parameter.grad, views[name]):
                return False
    return True


def _pairs(case: Case, runtime: Runtime, plain: PlainLoop, count: int) -> list[tuple[float, float]]:
    """Seconds of a step of either side, side by side in time, each first as often as the other."""
    batches = [_batch(case, seed) for seed in range(8)]
    steps = max(1, round(PAIR_S / _seconds(runtime.step, batches, 3)))
    _seconds(plain.step, batches, 3)
    pairs = []
    for number in range(count):
        sides = (runtime.step, plain.step) if number % 2 else (plain.step, runtime.step)
        took = {side: _seconds(side, batches, steps) for side in sides}
        pairs.append((took[runtime.step], took[plain.step]))
    return pairs


def _seconds(step: Callable[[dict[str, Tensor]], None], batches: list[dict[str, Tensor]], steps: int) -> float:
    began = time.perf_counter()
    for number in range(steps):
        step(batches[number % len(batches)])
    return (time.perf_counter() - began) / steps
