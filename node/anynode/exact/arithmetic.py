"""The operations that exact arithmetic allows, and the outer Nesterov step built from them.

IEEE 754 rounds elementwise add, subtract, multiply, divide, square root, compare and round-to-even the same
on every machine. Nothing here uses ``alpha=``, division by a Python scalar, ``lerp``, fused or floating-point
reduction kernels: they may contract, reorder or multiply by a reciprocal. A scalar becomes a tensor of its
operand's type first (``filled``). Sums of floats are pairwise halvings of elementwise additions; sums of
integers may be kernels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from anynode_contracts.errors import UserError, invariant


def filled(value: float, like: Tensor) -> Tensor:
    """``value`` rounded to the type of ``like`` and expanded (without a copy) to its shape."""
    return torch.tensor(value, dtype=like.dtype, device=like.device).expand_as(like)


def square_root(values: Tensor) -> Tensor:
    """The square roots of a vector on the CPU, rounded as IEEE 754 says: NumPy takes them with the processor's own
    instruction. PyTorch may take MKL's, which on Intel processors are a last bit off here and there.
    """
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(values.numpy()))


def pairwise_sum(values: Tensor) -> float:
    """The sum of a float64 vector, by halving: the padded upper half is added to the lower until one value is
    left.
    """
    invariant(values.dtype == torch.float64 and values.dim() == 1, "pairwise_sum takes a float64 vector")
    size = 1 << max(0, values.numel() - 1).bit_length()
    summed = torch.zeros(size, dtype=torch.float64, device=values.device)
    summed[: values.numel()] = values
    while summed.numel() > 1:
        half = summed.numel() // 2
        summed = summed[:half] + summed[half:]
    return float(summed[0])


def whole_power(base: float, exponent: int) -> float:
    """``base`` to a whole power at least 0 by squaring: products alone, where a library's ``pow`` may differ."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def half_cosine(fraction: float) -> float:
    """cos(π·fraction) for a fraction from 0 to 1, by its series: products and sums alone, as for ``whole_power``."""
    invariant(0.0 <= fraction <= 1.0, "half_cosine takes a fraction")
    mirrored = fraction > 0.5
    angle = math.pi * (1.0 - fraction if mirrored else fraction)
    square, value = angle * angle, 0.0
    for order in range(24, 0, -2):
        value = (1.0 + value) * -square / float(order * (order - 1))
    return -(1.0 + value) if mirrored else 1.0 + value


def block_max(blocks: Tensor) -> Tensor:
    """The largest value of each row of ``blocks`` [n, width], NaN where there is one. Comparing rounds nothing, so that
    a kernel may do it in any order.
    """
    return blocks.amax(dim=1)


def nesterov_(params: Tensor, momentum: Tensor, delta: Tensor, *, learning_rate: float, decay: float) -> None:
    """One outer step, in place: momentum = decay·momentum + delta; params -= rate·(delta + decay·momentum).

    All are float32 vectors of one length. ``delta`` points from the trained parameters back to the old ones,
    like a gradient (DiLoCo, Douillard et al. 2023; Nesterov momentum as in PyTorch's SGD).
    """
    momentum.mul_(filled(decay, momentum)).add_(delta)
    step = momentum * filled(decay, momentum)
    step.add_(delta)
    step.mul_(filled(learning_rate, step))
    params.sub_(step)


def require_ieee() -> None:
    """Raise ``UserError`` where this process rounds in another way: small numbers flushed to zero, for
    instance.
    """
    smallest_normal = torch.tensor([2.0**-126], dtype=torch.float32)
    half = torch.tensor([0.5], dtype=torch.float32)
    third = torch.tensor([1.0]) / torch.tensor([3.0])
    root = square_root(torch.tensor([2.0]))
    even = torch.round(torch.tensor([0.5, 1.5, -2.5]))
    exact = (
        float((smallest_normal * half)[0]) == 2.0**-127
        and float(third[0]) == float.fromhex("0x1.555556p-2")
        and float(root[0]) == float.fromhex("0x1.6a09e6p+0")
        and even.tolist() == [0.0, 2.0, -2.0]
    )
    if not exact:
        raise UserError(
            "this machine's arithmetic does not round as IEEE 754 says; unset flush-to-zero options and use a "
            "processor and PyTorch build with IEEE arithmetic"
        )
