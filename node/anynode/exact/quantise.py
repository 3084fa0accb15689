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
from typing import Any

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
_NIBBLES: NDArray[np.uint16] = (np.arange(256) & 15 | np.arange(256) >> 4 << 8).astype("<u2")
"""By byte, its low and its high four bits as two bytes."""


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
        if values.numel() and not bool(magnitude.amax() <= VALUE_MAX):  # false for NaN, too
            raise DivergedError("training diverged (a value is infinite or not a number); lower the learning rate")
        negative = self.unsigned and not bool((values >= filled(0.0, values)).all())
        invariant(not negative, "an unsigned value is negative")
        if self.bits == 32:
            return values.numpy().astype("<f4").tobytes()
        scales = self._scales(block_max(self._blocks(magnitude)))
        stored = self._stored(self._blocks(values), scales).reshape(-1)[: values.numel()]
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
        return _padded(values, self.block, 0)

    def _scales(self, top: Tensor) -> Tensor:
        scales = (top / filled(float(self.level), top)).to(torch.bfloat16).to(torch.float32)
        if self.unsigned:
            lifted = torch.maximum(scales, filled(_SMALLEST_SCALE, scales))
            scales = torch.where(top > filled(0.0, top), lifted, filled(0.0, scales))
        return scales

    def _stored(self, blocks: Tensor, scales: Tensor) -> Tensor:
        """The stored codes of blocks: one byte each up to 8 bits, else 32 bits. Memory is gone through few times."""
        used = scales > filled(0.0, scales)
        divisor = torch.where(used, scales, filled(1.0, scales))[:, None].expand_as(blocks)
        codes = (blocks / divisor).round_().clamp_(1 if self.unsigned else -self.level, self.level)
        if self.unsigned:  # a signed block without scale rounds to zeros by itself
            codes = torch.where(used[:, None], codes, filled(0.0, codes))
        codes.add_(filled(float(self.zero), codes))
        return codes.to(torch.uint8 if self.bits <= 8 else torch.int32)

    def _pack(self, stored: NDArray[Any]) -> bytes:
        if self.bits == 16:
            return stored.astype("<u2").tobytes()
        if self.bits == 8:
            return stored.tobytes()
        if stored.size % 2:
            stored = np.append(stored, np.uint8(self.zero))
        pairs: NDArray[np.uint16] = stored.view("<u2")
        return (pairs | (pairs >> 4)).astype(np.uint8).tobytes()

    def _unpack(self, codes: bytes, count: int) -> NDArray[Any]:
        if self.bits == 16:
            return np.frombuffer(codes, "<u2").astype(np.int32)
        raw = np.frombuffer(codes, np.uint8)
        if self.bits == 8:
            return raw.copy()
        stored = _NIBBLES[raw].view(np.uint8)
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
    """A checked payload: ``stored`` codes [count], uint8 up to 8 bits, else int32 (float32 values where bits = 32);
    ``scales`` float32 [blocks].
    """

    codec: Codec
    count: int
    stored: Tensor
    scales: Tensor

    def check_codes(self) -> None:
        """Raise ``RefusedError`` for a code that the codec never writes: zero where there is a scale, and any but that
        of zero where there is none.
        """
        blocks = self._blocks(int(self.stored[-1]) if self.count else 0)
        used = self.scales > filled(0.0, self.scales)
        lowest, highest = blocks.amin(dim=1), blocks.amax(dim=1)
        zeros = (lowest == self.codec.zero) & (highest == self.codec.zero)
        if not bool(torch.where(used, lowest >= 1, zeros).all()):
            raise RefusedError("an update chunk has a code out of range; drop its sender")

    def values(self) -> Tensor:
        """The float32 values [count], exactly code · scale."""
        if self.codec.bits == 32:
            return self.stored
        codes = self._blocks(self.codec.zero).to(torch.float32)
        codes.sub_(filled(float(self.codec.zero), codes))
        return codes.mul_(self.scales[:, None].expand_as(codes)).reshape(-1)[: self.count]

    def norm_squared(self) -> float:
        """Σ scale² · Σ code², with integer inner sums and float64 pairwise halving over blocks.

        scale² has 16 significant bits and the inner sum at most 37, so their product is exact in float64.
        """
        if self.codec.bits == 32:
            wide = self.stored.to(torch.float64)
            return pairwise_sum(wide * wide)
        # The square of a code of 16 bits does not fit into 32 bits with its sign.
        codes = self._blocks(self.codec.zero).to(torch.int32 if self.codec.bits <= 8 else torch.int64)
        codes.sub_(self.codec.zero)
        inner = codes.mul_(codes).sum(dim=1).to(torch.float64)
        wide = self.scales.to(torch.float64)
        return pairwise_sum(wide * wide * inner)

    def _blocks(self, beyond: int) -> Tensor:
        """The stored codes by block, with ``beyond`` after the last."""
        return _padded(self.stored, self.codec.block, beyond)


def _padded(values: Tensor, block: int, beyond: int) -> Tensor:
    """A vector as blocks [n, block], with ``beyond`` after its last value; the vector itself where it fits."""
    spare = -values.numel() % block
    return (functional.pad(values, (0, spare), value=beyond) if spare else values).view(-1, block)
