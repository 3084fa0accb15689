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
_ROUNDING = 1.5 * 2.0**23
"""Added to a float32 of magnitude below 2^22 it leaves the nearest whole number, ties to even, in the low bits."""
_FLOAT_WHOLE_MAX = 1 << 24
"""Up to here every whole number is a float32, and so their sums are exact in any order."""


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
        blocks = self._blocks(values)
        work = blocks.abs()
        top = block_max(work)
        if values.numel() and not bool(top.amax() <= VALUE_MAX):  # false for NaN, too
            raise DivergedError("training diverged (a value is infinite or not a number); lower the learning rate")
        negative = self.unsigned and values.numel() and bool(values.amin() < 0.0)
        invariant(not negative, "an unsigned value is negative")
        if self.bits == 32:
            return values.numpy().astype("<f4").tobytes()
        scales = self._scales(top)
        stored = self._stored(blocks, scales, work).reshape(-1)[: values.numel()]
        patterns = scales.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2")
        return b"".join((self._pack(stored.numpy()).data, patterns.data))

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
        stored = self._unpack(memoryview(payload)[:split], count)
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

    def _stored(self, blocks: Tensor, scales: Tensor, work: Tensor) -> Tensor:
        """The stored codes of blocks: one byte each up to 8 bits, else 32 bits. ``work`` is as large, and written to:
        memory is gone through few times, and none is asked for.
        """
        used = scales > filled(0.0, scales)
        divisor = torch.where(used, scales, filled(1.0, scales))[:, None].expand_as(blocks)
        codes = torch.div(blocks, divisor, out=work).clamp_(1 if self.unsigned else -self.level, self.level)
        if self.unsigned and not bool(used.all()):  # a signed block without scale rounds to zeros by itself
            codes[~used] = 0.0
        # Rounds, after the clamp to whole limits as before it; the low bits are then the stored code.
        words = codes.add_(filled(_ROUNDING + self.zero, codes)).view(torch.int32)
        return words.to(torch.uint8) if self.bits <= 8 else words.bitwise_and_(0xFFFF)

    def _pack(self, stored: NDArray[Any]) -> NDArray[Any]:
        if self.bits == 16:
            return stored.astype("<u2")
        if self.bits == 8:
            return stored
        if stored.size % 2:
            stored = np.append(stored, np.uint8(self.zero))
        pairs: NDArray[np.uint16] = stored.view("<u2")
        return (pairs | (pairs >> 4)).astype(np.uint8)

    def _unpack(self, codes: memoryview, count: int) -> NDArray[Any]:
        if self.bits == 16:
            return np.frombuffer(codes, "<u2").astype(np.int32)
        raw = np.frombuffer(codes, np.uint8)
        if self.bits == 8:
            return raw.copy()
        pairs = raw.astype("<u2")
        pairs |= pairs << np.uint16(4)
        pairs &= np.uint16(0x0F0F)
        stored = pairs.view(np.uint8)
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
        used = self.scales > filled(0.0, self.scales)
        fine = bool(self.stored.amin() >= 1) if self.count and bool(used.all()) else self._fine_by_block(used)
        if not fine:
            raise RefusedError("an update chunk has a code out of range; drop its sender")

    def _fine_by_block(self, used: Tensor) -> bool:
        blocks = self._blocks(int(self.stored[-1]) if self.count else 0)
        lowest, highest = blocks.amin(dim=1), blocks.amax(dim=1)
        zeros = (lowest == self.codec.zero) & (highest == self.codec.zero)
        return bool(torch.where(used, lowest >= 1, zeros).all())

    def values(self, into: Tensor | None = None) -> Tensor:
        """The float32 values [count], exactly code · scale; written to ``into`` [count] if it is given."""
        if self.codec.bits == 32:
            return self.stored.clone() if into is None else into.copy_(self.stored)
        blocks = self._blocks(self.codec.zero)
        fits = into is not None and blocks.numel() == self.count
        codes = into.view(blocks.shape).copy_(blocks) if into is not None and fits else blocks.to(torch.float32)
        codes.sub_(filled(float(self.codec.zero), codes))
        values = codes.mul_(self.scales[:, None].expand_as(codes)).reshape(-1)[: self.count]
        return values if into is None or fits else into.copy_(values)

    def norm_squared(self) -> float:
        """Σ scale² · Σ code², with integer inner sums and float64 pairwise halving over blocks.

        scale² has 16 significant bits and the inner sum at most 37, so their product is exact in float64.
        """
        if self.codec.bits == 32:
            wide = self.stored.to(torch.float64)
            return pairwise_sum(wide * wide)
        codes = self._blocks(self.codec.zero)
        if self.codec.level**2 * self.codec.block <= _FLOAT_WHOLE_MAX:
            codes = codes.to(torch.float32)
        else:  # the square of a code of 16 bits does not fit into 32 bits with its sign
            codes = codes.to(torch.int32 if self.codec.bits <= 8 else torch.int64)
        codes.sub_(filled(self.codec.zero, codes))
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
