"""The data types that jobs and data sets hold, as PyTorch's and by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from anynode.data.manifest import ITEM_BYTES

TORCH_DTYPES: Mapping[str, torch.dtype] = {name: getattr(torch, name) for name in ITEM_BYTES}
DTYPE_NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in TORCH_DTYPES.items()}
