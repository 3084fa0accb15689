"""A worker's update: what its inner steps changed, quantised chunk by chunk and named by one root.

The manifest has kind "update", one chunk per ``ChunkSpec`` in order (see ``quantise`` for the bytes of a
chunk), and the integers that place it as ``meta``. The "delta" section is (S_r - trained parameters) / steps,
"v" the square root of the inner optimizer's second moment. In gradient mode "delta" is the mean
gradient of the worker's samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from anynode.blobs.manifest import ChunkRef, Manifest
from anynode.exact.arithmetic import filled, square_root
from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.exact.reduce import ExchangeRules
from anynode_contracts.errors import invariant

KIND = "update"


@dataclass(frozen=True, slots=True)
class Trained:
    """Where inner training came from and got to: float32 vectors [values]; ``steps`` inner steps over
    ``samples``.
    """

    start: Tensor
    params: Tensor
    v: Tensor
    steps: int
    samples: int

    @property
    def values(self) -> int:
        return self.params.numel()

    def section(self, spec: ChunkSpec) -> Tensor:
        """The values of one chunk."""
        here = slice(spec.start, spec.start + spec.count)
        if spec.section == "v":
            return square_root(self.v[here])
        moved = self.start[here] - self.params[here]
        return moved.div_(filled(float(self.steps), moved))


@dataclass(frozen=True, slots=True)
class MeanGradient:
    """What gradient mode contributes: the mean ``gradient`` [values] over ``steps`` batches, ``samples`` in all."""

    gradient: Tensor
    steps: int
    samples: int

    @property
    def values(self) -> int:
        return self.gradient.numel()

    def section(self, spec: ChunkSpec) -> Tensor:
        """The values of one chunk."""
        invariant(spec.section == "delta", "a gradient carries no second moments")
        return self.gradient[spec.start : spec.start + spec.count]


@dataclass(frozen=True, slots=True)
class UpdatePlace:
    """Which update this is: job id, round, slot, and whether it carries second moments."""

    job_id: str
    round: int
    slot: int
    refresh: bool


def build_update(
    done: Trained | MeanGradient, place: UpdatePlace, rules: ExchangeRules, keep: Callable[[bytes], str]
) -> Manifest:
    """Quantise and hand each payload to ``keep``, which returns its hash. Memory use is one chunk.

    Raises ``DivergedError`` when training left values that are not finite.
    """
    values = done.values
    chunks = []
    for spec in chunk_specs(values, place.refresh):
        payload = rules.codec(spec.section).encode(done.section(spec))
        chunks.append(ChunkRef(keep(payload), len(payload)))
    meta = {
        "job_id": place.job_id,
        "round": place.round,
        "slot": place.slot,
        "refresh": place.refresh,
        "bits": rules.bits,
        "block": rules.block,
        "steps": done.steps,
        "samples": done.samples,
        "values": values,
    }
    return Manifest(KIND, meta, tuple(chunks))
