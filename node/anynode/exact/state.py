"""The exact state S_r: what every peer holds, bit for bit, when round r opens.

Canonical bytes: four vectors of float32, little endian, tensors in name order: parameters, outer momentum
and, once there are any, the first and second Adam moments m and v. Only gradient mode keeps a first moment; elsewhere
m is zero, and costs one chunk. Each vector is cut by itself into chunks of 1 MiB, so that the moments of a round that
does not refresh them are the same chunks as before. ``state_root``
is the root of the manifest (kind "state") whose header names everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.exact.arithmetic import filled
from anynode.exact.finite import all_finite
from anynode.exact.layout import TensorLayout
from anynode_contracts.errors import RefusedError, UserError

KIND = "state"
CHUNK_VALUES = CHUNK_BYTES_MAX // 4
VALUES_MAX = 1 << 36

_Count = Annotated[int, Field(strict=True, ge=0, le=1 << 62)]
_Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=512)]
_Size = Annotated[int, Field(strict=True, ge=0, le=VALUES_MAX)]


class StateHeader(BaseModel):
    """The ``meta`` of a state's manifest. It can be read without torch or the tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: Annotated[str, StringConstraints(strict=True, pattern=r"\A[0-9a-f]{64}\z")]
    round: _Count
    step: _Count
    cursor: _Count
    returned: Annotated[tuple[tuple[_Count, _Count], ...], Field(max_length=1 << 20)]
    has_moments: Annotated[bool, Field(strict=True)]
    tensors: Annotated[
        tuple[tuple[_Name, Annotated[tuple[_Size, ...], Field(max_length=16)]], ...],
        Field(max_length=1 << 16),
    ]

    @classmethod
    def of(cls, manifest: Manifest) -> StateHeader:
        """The checked header of a manifest. Raises ``RefusedError`` when it is not one of a state."""
        try:
            header = cls.model_validate(manifest.meta)
        except ValidationError as error:
            raise RefusedError(f"state {manifest.root[:16]}… has a malformed header; ask another peer") from error
        names = [name for name, _ in header.tensors]
        values = sum(math.prod(shape) for _, shape in header.tensors)
        if names != sorted(set(names)) or values > VALUES_MAX or header.to_meta() != manifest.meta:
            raise RefusedError(f"state {manifest.root[:16]}… has a header out of order or limits; ask another peer")
        sections = 4 if header.has_moments else 2
        sizes = [4 * count for _ in range(sections) for _, count in _cuts(values)]
        if [chunk.size_bytes for chunk in manifest.chunks] != sizes:
            raise RefusedError(f"state {manifest.root[:16]}… has chunks of the wrong sizes; ask another peer")
        return header

    def to_meta(self) -> dict[str, object]:
        return {
            "job_id": self.job_id,
            "round": self.round,
            "step": self.step,
            "cursor": self.cursor,
            "returned": [list(item) for item in self.returned],
            "has_moments": self.has_moments,
            "tensors": [[name, list(shape)] for name, shape in self.tensors],
        }


@dataclass(frozen=True)
class State:
    """``params`` and ``momentum`` are float32 vectors [layout.values]; ``m`` and ``v`` too, empty until
    published.

    ``step`` counts inner steps of the schedule, ``round`` the round that opens from this state, ``cursor``
    the next undealt position in the data, ``returned`` the ranges (start, end) of positions that went back to
    the pool.
    """

    job_id: str
    layout: TensorLayout
    params: Tensor
    momentum: Tensor
    m: Tensor
    v: Tensor
    step: int = 0
    round: int = 0
    cursor: int = 0
    returned: tuple[tuple[int, int], ...] = ()

    @property
    def has_moments(self) -> bool:
        return self.m.numel() == self.params.numel()

    @classmethod
    def initial(cls, job_id: str, tensors: Mapping[str, Tensor]) -> State:
        """The state that round 0 opens from: the job's weights, no momentum, no moments."""
        layout = TensorLayout.of(tensors)
        params = layout.flatten(tensors)
        if not all_finite(params):
            raise UserError("the job's weights hold infinities or NaN; export the model again with finite weights")
        return cls(job_id, layout, params, torch.zeros_like(params), torch.empty(0), torch.empty(0))

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, as views: do not write to them."""
        return self.layout.views(self.params)

    def header(self) -> StateHeader:
        return StateHeader(
            job_id=self.job_id,
            round=self.round,
            step=self.step,
            cursor=self.cursor,
            returned=self.returned,
            has_moments=self.has_moments,
            tensors=self.layout.tensors,
        )

    def save(self, store: BlobStore) -> Manifest:
        """Store the chunks, then the manifest: a reader of the root never meets half a state. A killed process loses
        nothing of it, a power cut nothing once `BlobStore.sync_blob` has made it durable.

        Raises ``UserError`` when the disk is full; every state saved before stays whole.
        """
        sections = (self.params, self.momentum, self.m, self.v) if self.has_moments else (self.params, self.momentum)
        chunks = tuple(
            ChunkRef(store.put(piece), len(piece)) for section in sections for piece in _little_endian(section)
        )
        manifest = Manifest(KIND, self.header().to_meta(), chunks)
        store.put_manifest(manifest)
        return manifest

    @classmethod
    def load(cls, store: BlobStore, root: str) -> State:
        """Read the state ``root``. Raises ``RefusedError`` when a chunk is missing or damaged or a value not
        finite.
        """
        manifest = store.manifest(root, KIND)
        header = StateHeader.of(manifest)
        layout = TensorLayout(header.tensors)
        refs = iter(manifest.chunks)
        sections = [torch.empty(layout.values) for _ in range(4 if header.has_moments else 2)]
        for section in sections:
            for start, count in _cuts(layout.values):
                piece = np.frombuffer(store.get(next(refs).hash), "<f4").astype(np.float32)
                section[start : start + count] = torch.from_numpy(piece)
        params, momentum, m, v = (*sections, torch.empty(0), torch.empty(0))[:4]
        if not all(all_finite(section) for section in sections) or not bool((v >= filled(0.0, v)).all()):
            raise RefusedError(f"state {root[:16]}… holds values that are not finite; ask another peer")
        state = cls(header.job_id, layout, params, momentum, m, v)
        return replace(state, step=header.step, round=header.round, cursor=header.cursor, returned=header.returned)


def _cuts(values: int) -> Iterator[tuple[int, int]]:
    for start in range(0, values, CHUNK_VALUES):
        yield start, min(CHUNK_VALUES, values - start)


def _little_endian(section: Tensor) -> Iterator[memoryview]:
    for start, count in _cuts(section.numel()):
        yield section[start : start + count].numpy().astype("<f4", copy=False).data.cast("B")
