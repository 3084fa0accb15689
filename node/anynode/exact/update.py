"""A worker's update: what its inner steps changed, quantised chunk by chunk and named by one root.

The manifest has kind "update", one chunk per ``ChunkSpec`` in order (see ``quantise`` for the bytes of a
chunk), and the integers that place it as ``meta``. The "delta" section is (S_r - trained parameters) / steps,
"m" and "v" the inner optimizer's first moment and the square root of its second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.exact.arithmetic import filled
from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.exact.reduce import ExchangeRules

KIND = "update"


@dataclass(frozen=True, slots=True)
class Trained:
    """Where inner training came from and got to: float32 vectors [values]; ``steps`` inner steps over
    ``samples``.
    """

    start: Tensor
    params: Tensor
    m: Tensor
    v: Tensor
    steps: int
    samples: int


@dataclass(frozen=True, slots=True)
class UpdatePlace:
    """Which update this is: job id, round, slot, and whether it carries moments."""

    job_id: str
    round: int
    slot: int
    refresh: bool


def build_update(trained: Trained, place: UpdatePlace, rules: ExchangeRules, keep: Callable[[bytes], str]) -> Manifest:
    """Quantise and hand each payload to ``keep``, which returns its hash. Memory use is one chunk.

    Raises ``DivergedError`` when training left values that are not finite.
    """
    values = trained.params.numel()
    chunks = []
    for spec in chunk_specs(values, place.refresh):
        payload = rules.codec(spec.section).encode(_section(trained, spec))
        chunks.append(ChunkRef(keep(payload), len(payload)))
    meta = {
        "job_id": place.job_id,
        "round": place.round,
        "slot": place.slot,
        "refresh": place.refresh,
        "bits": rules.bits,
        "block": rules.block,
        "steps": trained.steps,
        "samples": trained.samples,
        "values": values,
    }
    return Manifest(KIND, meta, tuple(chunks))


def _section(trained: Trained, spec: ChunkSpec) -> Tensor:
    here = slice(spec.start, spec.start + spec.count)
    if spec.section == "m":
        return trained.m[here]
    if spec.section == "v":
        return torch.sqrt(trained.v[here])
    moved = trained.start[here] - trained.params[here]
    return moved / filled(float(trained.steps), moved)
