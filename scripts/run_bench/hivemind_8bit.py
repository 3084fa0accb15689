"""Makes hivemind's 8-bit compression run beside NumPy 2.4, so that it is measured at its best.

hivemind 1.1.12 reads the length of a code book with ``int()`` of an array of one number, which NumPy takes no longer:
each averaging then fails, and peers go on alone. `mend` reads the same number as a scalar; nothing else changes.
"""

from __future__ import annotations

import numpy as np
import torch
from hivemind.compression.quantization import Quantization
from hivemind.proto import runtime_pb2


def mend() -> None:
    """Once in each process that receives tensors."""
    setattr(Quantization, "extract", _extract)  # noqa: B010 (it is meant to be replaced)


def _extract(self: Quantization, serialized_tensor: runtime_pb2.Tensor) -> torch.Tensor:
    data = serialized_tensor.buffer
    length = int.from_bytes(data[:8], "little", signed=True)
    code_book = np.frombuffer(data, offset=8, count=length, dtype=self.codebook_dtype)
    codes = np.frombuffer(data, offset=8 + code_book.nbytes, dtype=self.indices_dtype)
    values = torch.as_tensor(code_book.copy()).to(getattr(torch, serialized_tensor.dtype))
    indices = torch.as_tensor(codes.astype(np.int64)).reshape(tuple(serialized_tensor.size))
    return values[indices].requires_grad_(serialized_tensor.requires_grad)
