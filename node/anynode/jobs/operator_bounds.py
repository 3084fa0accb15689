"""What an operator needs beyond its declared outputs, worked out from argument shapes before it is called.

A few operators build something larger inside than they return (a product copies its sides, a convolution unfolds,
attention may hold a score matrix), or return as many tensors as an argument says. Both are bounded here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from anynode.jobs.graph_format import GraphFault


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape of tensors that broadcast against each other (size 1 stretches)."""
    reversed_sizes = zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    return tuple(reversed([max(sizes) for sizes in reversed_sizes]))


def same_shapes(values: Sequence[Any]) -> int:
    """An element-wise loss takes two tensors of one shape; its weights, if any, stretch to it."""
    shape = tuple(values[0].shape)
    weights = [tuple(value.shape) for value in values[2:] if hasattr(value, "shape")]
    if tuple(values[1].shape) != shape or broadcast_shape(shape, *weights) != shape:
        raise GraphFault("the two sides of an element-wise loss have the same shape")
    return math.prod(shape)


def matmul_elements(values: Sequence[Any]) -> int:
    """``matmul(a, b)`` may copy both sides to the common batch shape before multiplying."""
    left, right = values[0].shape, values[1].shape
    rows = left[-2] if len(left) > 1 else 1
    columns = right[-1] if len(right) > 1 else 1
    inner = left[-1] if left else 1
    batch = math.prod(broadcast_shape(left[:-2], right[:-2]))
    return int(batch * max(rows * inner, inner * columns, rows * columns))


def attention_elements(values: Sequence[Any]) -> int:
    """The score matrix of attention: batch and heads x queries x keys."""
    query, key = values[0].shape, values[1].shape
    if len(query) < 3 or len(key) < 3:
        raise GraphFault("attention takes tensors of three or more dimensions")
    return math.prod(broadcast_shape(query[:-2], key[:-2])) * int(query[-2]) * int(key[-2])


def convolution_elements(values: Sequence[Any]) -> int:
    """One unfolded sample: input channels x kernel x output positions (bounded from above)."""
    image, weight = values[0].shape, values[1].shape
    if len(weight) < 3 or len(image) < 2 or len(image) > len(weight):
        raise GraphFault("a convolution takes a batch of channels and a kernel of matching dimensions")
    spatial = image[-(len(weight) - 2) :]
    padding = max(weight[2:] if isinstance(values[4], str) else values[4], default=0)
    stride = min(values[3], default=1)
    positions = math.prod(math.ceil((size + 2 * padding) / stride) for size in spatial)
    return int(math.prod(weight[1:]) * positions)


def split_count(values: Sequence[Any]) -> int:
    """Pieces of ``split(tensor, size, dim)``."""
    return -(-_size(values[0], values[2]) // int(values[1]))


def split_sizes_count(values: Sequence[Any]) -> int:
    """Pieces of ``split_with_sizes(tensor, sizes, dim)``."""
    return len(values[1])


def chunk_count(values: Sequence[Any]) -> int:
    """Pieces of ``chunk(tensor, chunks, dim)``: at most ``chunks``."""
    size = _size(values[0], values[2])
    piece = -(-size // int(values[1]))
    return -(-size // piece)


def unbind_count(values: Sequence[Any]) -> int:
    """Pieces of ``unbind(tensor, dim)``."""
    return _size(values[0], values[1])


def _size(tensor: Any, dim: int) -> int:
    if not -tensor.dim() <= dim < tensor.dim():
        raise GraphFault(f"dimension {dim} does not exist in a tensor of {tensor.dim()} dimensions")
    return int(tensor.shape[dim])
