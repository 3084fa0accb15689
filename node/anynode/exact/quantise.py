"""Block-wise symmetric quantisation of float32 vectors, and its bytes on the wire.

The wire scale is the quantisation *step*: value = code · scale. A bfloat16 scale has 8 significant bits and a
code at most 16, so the product is exact in float32: reading an update rounds nothing.

Canonical payload of ``count`` values, all little endian, ``codes || scales``:

===== ======================================== =============================================
bits  codes                                    scales
===== ======================================== =============================================
4     ceil(count/2) bytes, even value low      ceil(count/block) bfloat16, 2 bytes each
8     count bytes                              the same
16    count · 2 bytes                          the same
32    count float32, 4 bytes each              none
===== ======================================== =============================================

A signed code c is stored as c + 2^(bits-1), 1 to 2^bits-1 (symmetric, stored 0 is refused). An unsigned code
is stored as it is, 1 to 2^bits-1: a value is never rounded to zero in a block whose scale is not zero (square
roots of second moments divide). In a block with scale zero every code is the code of zero, and so is the
spare nibble of an odd count: equal values have equal bytes. Rounding is to nearest even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anynode.exact.arithmetic import block_max, filled, pairwise_sum
from anynode_contracts.errors import RefusedError, UserError, invariant

VALUE_MAX = 2.0**40
"""Larger magnitudes are refused: no honest update is near it, and products of accepted ones stay finite."""

_SCALE_BITS_MAX = (127 + 40) << 7
_SMALLEST_SCALE = 2.0**-133


class DivergedError(UserError):
    """Training left values that no update can carry."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How a vector is quantised: ``bits`` (4, 8, 16, or 32 for none), values per ``block``, signed or
    unsigned.
    """

    bits: int
    block: int
    unsigned: bool = False

    def __post_init__(self) -> None:
        invariant(self.bits in (4, 8, 16, 32), "an update has 4, 8, 16 or 32 bits")
        invariant(self.block >= 2 and self.block & (self.block - 1) == 0, "a block holds a power of two of values")

    @property
    def level(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1 if self.unsigned else (1 << (self.bits - 1)) - 1

    @property
    def zero(self) -> int:
        """The stored code of zero."""
        return 0 if self.unsigned else 1 << (self.bits - 1)

    def code_bytes(self, count: int) -> int:
        return (count * self.bits + 7) // 8

    def payload_bytes(self, count: int) -> int:
        """Size of the payload of ``count`` values."""
        scales = 0 if self.bits == 32 else -(-count // self.block)
        return self.code_bytes(count) + 2 * scales

    def encode(self, values: Tensor) -> bytes:
        """Quantise a float32 vector. Raises ``DivergedError`` for NaN, infinity or a magnitude over
        ``VALUE_MAX``.
        """
        invariant(values.dtype == torch.float32 and values.dim() == 1, "encode takes a float32 vector")
        magnitude = values.abs()
        if not bool((magnitude <= filled(VALUE_MAX, magnitude)).all()):
            raise DivergedError("training diverged (a value is infinite or not a number); lower the learning rate")
        negative = self.unsigned and not bool((values >= filled(0.0, values)).all())
        invariant(not negative, "an unsigned value is negative")
        if self.bits == 32:
            return values.numpy().astype("<f4").tobytes()
        blocks = self._blocks(values)
        scales = self._scales(block_max(blocks.abs()))
        stored = self._codes(blocks, scales).reshape(-1)[: values.numel()] + self.zero
        patterns = scales.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").tobytes()
        return self._pack(stored.numpy()) + patterns

    def parse(self, payload: bytes, count: int) -> Quantised:
        """Check received bytes. Raises ``RefusedError`` unless they are a canonical payload of ``count``
        values.
        """
        if len(payload) != self.payload_bytes(count):
            raise RefusedError(
                f"an update chunk has {len(payload)} bytes instead of {self.payload_bytes(count)}; its sender must "
                "send it again"
            )
        split = self.code_bytes(count)
        if self.bits == 32:
            return self._parse_raw(payload, count)
        patterns = np.frombuffer(payload, "<u2", offset=split).astype(np.int32)
        if bool((patterns > _SCALE_BITS_MAX).any()):
            raise RefusedError("an update chunk has a scale that is negative, infinite or too large; drop its sender")
        stored = self._unpack(payload[:split], count)
        scales = torch.from_numpy(patterns.astype(np.int16)).view(torch.bfloat16).to(torch.float32)
        quantised = Quantised(self, count, torch.from_numpy(stored), scales)
        quantised.check_codes()
        return quantised

    def _blocks(self, values: Tensor) -> Tensor:
        return functional.pad(values, (0, -values.numel() % self.block)).view(-1, self.block)

    def _scales(self, top: Tensor) -> Tensor:
        scales = (top / filled(float(self.level), top)).to(torch.bfloat16).to(torch.float32)
        if self.unsigned:
            lifted = torch.maximum(scales, filled(_SMALLEST_SCALE, scales))
            scales = torch.where(top > filled(0.0, top), lifted, filled(0.0, scales))
        return scales

    def _codes(self, blocks: Tensor, scales: Tensor) -> Tensor:
        used = scales > filled(0.0, scales)
        divisor = torch.where(used, scales, filled(1.0, scales))[:, None].expand_as(blocks)
        lowest = 1 if self.unsigned else -self.level
        codes = torch.round(blocks / divisor).clamp(lowest, self.level)
        return torch.where(used[:, None], codes, filled(0.0, codes)).to(torch.int32)

    def _pack(self, stored: NDArray[np.int32]) -> bytes:
        if self.bits == 16:
            return stored.astype("<u2").tobytes()
        small = stored.astype(np.uint8)
        if self.bits == 8:
            return small.tobytes()
        if small.size % 2:
            small = np.append(small, np.uint8(self.zero))
        return (small[0::2] | (small[1::2] << 4)).tobytes()

    def _unpack(self, codes: bytes, count: int) -> NDArray[np.int32]:
        if self.bits == 16:
            return np.frombuffer(codes, "<u2").astype(np.int32)
        raw = np.frombuffer(codes, np.uint8)
        if self.bits == 8:
            return raw.astype(np.int32)
        stored = np.empty(2 * raw.size, np.int32)
        stored[0::2] = raw & 15
        stored[1::2] = raw >> 4
        if count % 2 and int(stored[-1]) != self.zero:
            raise RefusedError("an update chunk has a value beyond its end; drop its sender")
        return stored[:count]

    def _parse_raw(self, payload: bytes, count: int) -> Quantised:
        values = torch.from_numpy(np.frombuffer(payload, "<f4").astype(np.float32))
        magnitude = values.abs()
        fine = bool((magnitude <= filled(VALUE_MAX, magnitude)).all())
        if not fine or (self.unsigned and not bool((values >= filled(0.0, values)).all())):
            raise RefusedError("an update chunk has a value that is not finite or out of range; drop its sender")
        return Quantised(self, count, values, torch.empty(0))


@dataclass(frozen=True, slots=True)
class Quantised:
    """A checked payload: ``stored`` codes int32 [count] (float32 values where bits = 32), ``scales`` float32
    [blocks].
    """

    codec: Codec
    count: int
    stored: Tensor
    scales: Tensor

    def check_codes(self) -> None:
        """Raise ``RefusedError`` for a code that the codec never writes."""
        codes = self._blocks()
        used = (self.scales > filled(0.0, self.scales))[:, None].expand_as(codes)
        own = torch.arange(codes.numel()).view_as(codes) < self.count
        lowest = 1 if self.codec.unsigned else -self.codec.level
        written = torch.where(used & own, codes >= lowest, codes == 0)
        if not bool(written.all()):
            raise RefusedError("an update chunk has a code out of range; drop its sender")

    def values(self) -> Tensor:
        """The float32 values [count], exactly code · scale."""
        if self.codec.bits == 32:
            return self.stored
        codes = self._blocks().to(torch.float32)
        return (codes * self.scales[:, None].expand_as(codes)).reshape(-1)[: self.count]

    def norm_squared(self) -> float:
        """Σ scale² · Σ code², with integer inner sums and float64 pairwise halving over blocks.

        scale² has 16 significant bits and the inner sum at most 37, so their product is exact in float64.
        """
        if self.codec.bits == 32:
            wide = self.stored.to(torch.float64)
            return pairwise_sum(wide * wide)
        codes = self._blocks().to(torch.int64)
        inner = (codes * codes).sum(dim=1).to(torch.float64)
        wide = self.scales.to(torch.float64)
        return pairwise_sum(wide * wide * inner)

    def _blocks(self) -> Tensor:
        codes = self.stored - self.codec.zero
        return functional.pad(codes, (0, -self.count % self.codec.block)).view(-1, self.codec.block)
