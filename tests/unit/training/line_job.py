"""A toy that trains in milliseconds: a two-layer network learns the sine of a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anynode.exact.layout import chunk_specs, refresh_due
from anynode.exact.outer import NextRound
from anynode.exact.reduce import Contribution, reduce_chunk, steps_advance
from anynode.exact.state import State
from anynode.jobs.settings import Training
from anynode.training.inner import Workload, work
from anynode.training.messages import WorkResult, WorkSpec
from anynode.training.rules import end_round, exchange_rules
from anynode_contracts.canonical import hash_hex

JOB_ID = "ab" * 32
SAMPLES = 512
STEPS = 10


def loss(params: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    hidden = torch.tanh(batch["x"] @ params["in.weight"] + params["in.bias"])
    error = hidden @ params["out.weight"] - batch["y"]
    return (error * error).mean()


def batch_of(indices: Sequence[int]) -> dict[str, Tensor]:
    x = torch.tensor([[index * 6.0 / SAMPLES - 3.0] for index in indices])
    return {"x": x, "y": torch.sin(x)}


def workload(**changes: object) -> Workload:
    settings: dict[str, object] = {
        "batch_size": 8,
        "inner_steps": STEPS,
        "rounds": 12,
        "learning_rate": 0.02,
        "total_steps": 200,
        "segment_steps": 4,
        "weight_decay": 0.0,
    }
    return Workload(loss, batch_of, Training.model_validate(settings | changes))


def initial_state() -> State:
    generator = torch.Generator().manual_seed(3)
    return State.initial(
        JOB_ID,
        {
            "in.weight": torch.randn(1, 16, generator=generator),
            "in.bias": torch.randn(16, generator=generator),
            "out.weight": torch.randn(16, 1, generator=generator) * 0.25,
        },
    )


def spec_of(state: State, slot: int, steps: int = STEPS, refresh: bool = True) -> WorkSpec:
    first = (state.cursor + slot * steps * 8) * 37
    indices = tuple((first + i * 37) % SAMPLES for i in range(steps * 8))
    return WorkSpec(JOB_ID, state.round, slot, "00" * 32, steps, indices, refresh)


@dataclass
class MemoryStore:
    """Bytes by their hash."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def keep(self, data: bytes) -> str:
        digest = hash_hex(data)
        self.blobs[digest] = data
        return digest


def one_round(task: Workload, state: State, workers: int, steps: int = STEPS) -> State:
    """What ``workers`` and their reducers do in one round."""
    store = MemoryStore()
    settings = task.settings
    refresh = settings.publishes_moments and refresh_due(state.round, settings.refresh_rounds, state.has_moments)
    results = [work(task, state, spec_of(state, slot, steps, refresh=refresh), store.keep) for slot in range(workers)]
    updates = [chunks_of(result, store) for result in results]
    averaged = []
    for spec in chunk_specs(state.layout.values, refresh):
        items = [
            Contribution(slot, update[spec.index], result.samples, result.steps)
            for slot, (update, result) in enumerate(zip(updates, results, strict=True))
        ]
        averaged.append(reduce_chunk(spec, items, exchange_rules(task.settings)))
    advance = steps_advance([(result.samples, result.steps) for result in results])
    after = NextRound(state.round + 1, state.cursor + sum(result.samples for result in results), ())
    return end_round(state, averaged, task.settings, refresh=refresh, steps_advance=advance, after=after)


def chunks_of(result: WorkResult, store: MemoryStore) -> list[bytes]:
    from anynode.blobs.manifest import Manifest

    manifest = Manifest.from_bytes(store.blobs[result.update_root], root=result.update_root, kind="update")
    return [store.blobs[chunk.hash] for chunk in manifest.chunks]


def mean_loss(state: State) -> float:
    return float(loss(state.parameters(), batch_of(range(0, SAMPLES, 5))))
