"""A fingerprint of what a process computes, so that two machines whose arithmetic differs are not taken for one class.

Maker, instruction set and versions do not say everything: libraries choose some kernels by the processor's model (MKL's
square roots differ in their last bit between makers under the same pins). What they have chosen shows in results.
Equal fingerprints promise nothing about the operators that are not tried; unequal ones are two classes for certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

DIGITS = 8
_ROWS, _INNER, _COLUMNS = 37, 131, 67


def numerics_fingerprint(device: str) -> str:
    """Eight hexadecimal digits of the bits of common operators' results on ``device``, in float32 and bfloat16.

    Takes some tens of milliseconds. Imports torch. The inputs are multiples of powers of two, the same everywhere.
    """
    import torch  # noqa: PLC0415  (heavy, and only the trainer needs it)

    digest = blake3()
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            left = _values(_ROWS * _INNER, device).to(dtype).view(_ROWS, _INNER)
            right = _values(_INNER * _COLUMNS, device).to(dtype).view(_INNER, _COLUMNS)
            for result in _results(left, right):
                digest.update(result.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def _values(count: int, device: str) -> Tensor:
    """``count`` float32 values between -4 and 4, none of them zero."""
    import torch  # noqa: PLC0415

    spread = torch.arange(count, dtype=torch.int64) * 40_503 % 8_191 * 2 - 8_191
    return (spread.to(torch.float32) * 2.0**-11).to(device)


def _results(left: Tensor, right: Tensor) -> Iterator[Tensor]:
    """Products, roots, powers and sums as models and optimizers use them."""
    from torch.nn import functional  # noqa: PLC0415

    product = left @ right
    yield product
    yield from (left.abs().sqrt(), left.exp(), left.abs().log(), left.tanh(), left.sin(), left.cos(), left.rsqrt())
    yield from (functional.gelu(left), functional.gelu(left, approximate="tanh"), functional.silu(left))
    yield from (functional.softmax(product, -1), functional.log_softmax(product, -1))
    yield from (functional.layer_norm(left, left.shape[-1:]), left.sum(0), left.mean(1), left.var(1), left.norm())
    yield functional.conv2d(left.view(1, 1, *left.shape), right[:3, :3].reshape(1, 1, 3, 3))
