"""How much of a batch fits into memory: tried with a real forward and backward pass when the trainer starts."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from anynode.exact.layout import TensorLayout
from anynode.jobs.graph import Graph
from anynode.training.gradients import Gradients, Place
from anynode.training.memory import ran_out
from anynode_contracts.errors import UserError

_STATE_VECTORS = 4
_OPTIMIZER_VECTORS = 2
_SPARE_BYTES = 48 << 20
"""For what a round needs besides: chunks under way, a batch's data, threads that hash."""


@dataclass(frozen=True, slots=True)
class Fit:
    """``micro_batch``: the most samples that one pass takes here; ``peak_bytes``: the memory in use at its height."""

    micro_batch: int
    peak_bytes: int


def fitting(graph: Graph, place: Place) -> Fit:
    """Try the graph's batch sizes from the largest down, beside as much memory as state and optimizer will take.

    Raises ``UserError`` when not even the smallest fits.
    """
    for size in graph.batch_sizes:
        try:
            _try(graph, place, size)
        except (RuntimeError, MemoryError, UserError) as error:
            if not ran_out(error):
                raise
            if place.device == "cuda":
                torch.cuda.empty_cache()
            continue
        return Fit(size, _peak_bytes(place.device))
    raise UserError(
        f"the job's model does not fit into memory with {graph.batch_sizes[-1]} samples at a time; raise the memory "
        "limit, close other programs or take a job with a smaller model"
    )


def _try(graph: Graph, place: Place, size: int) -> None:
    layout = TensorLayout(tuple((name, spec.shape) for name, spec in graph.parameters.items()))
    held = torch.empty(_STATE_VECTORS * layout.values), torch.empty(_SPARE_BYTES, dtype=torch.uint8)
    moments = torch.empty(_OPTIMIZER_VECTORS * layout.values, device=place.device)
    params = torch.zeros(layout.values, device=place.device)
    gradients = Gradients(graph.loss, layout, params, place)
    batch = {name: torch.zeros((size, *column.shape), dtype=column.dtype) for name, column in graph.inputs.items()}
    gradients.mean(batch, size)
    del held, moments


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    if sys.platform == "linux":  # its ru_maxrss goes on from that of the parent
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
