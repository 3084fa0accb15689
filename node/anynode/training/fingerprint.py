"""BLAKE3 fingerprints of tensors: of an inner state, and of the samples that a segment was fed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from blake3 import blake3
from torch import Tensor

from anynode_contracts.canonical import canonical_json


def state_fingerprint(*vectors: Tensor, key: bytes = b"") -> str:
    """Of the float32 vectors [values] of an inner state: parameters and what its optimizer remembers.

    Under a ``key`` of 32 bytes it is another one, which only who has the state can give.
    """
    head = b"anynode inner state\x00" + str(vectors[0].numel()).encode() + b"\x00"
    hasher = blake3(head, key=key) if key else blake3(head)
    for vector in vectors:
        hasher.update(vector.cpu().numpy().astype("<f4", copy=False).view(np.uint8).data)
    return hasher.hexdigest()


class InputFingerprint:
    """Of a segment's batches, one after the other: names, types, shapes and bytes of their columns."""

    def __init__(self) -> None:
        self._hasher = blake3(b"anynode segment inputs\x00")

    def add(self, batch: Mapping[str, Tensor]) -> None:
        for name in sorted(batch):
            column = batch[name]
            values = np.ascontiguousarray(column.numpy())
            little = values.astype(values.dtype.newbyteorder("<"), copy=False)
            head = {"name": name, "dtype": str(column.dtype), "shape": list(column.shape)}
            self._hasher.update(canonical_json(head) + b"\x00")
            self._hasher.update(little.tobytes())

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()
