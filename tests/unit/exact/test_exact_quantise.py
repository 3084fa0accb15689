"""Quantisation: round trips, what is canonical, and hostile bytes."""

from __future__ import annotations

import math
import random

import pytest
import torch
from exact_inputs import spread

from anynode.exact.quantise import VALUE_MAX, Codec, DivergedError
from anynode_contracts.errors import RefusedError

COUNTS = [1, 2, 127, 128, 129, 1_001, 4_096]
SIGNED = [Codec(bits, 128) for bits in (4, 8, 16, 32)]
UNSIGNED = [Codec(bits, 128, unsigned=True) for bits in (4, 8, 16, 32)]


@pytest.mark.parametrize("codec", SIGNED + UNSIGNED, ids=str)
@pytest.mark.parametrize("count", COUNTS)
def test_a_round_trip_stays_within_half_a_step(codec: Codec, count: int) -> None:
    values = spread(count, count, unsigned=codec.unsigned)
    payload = codec.encode(values)
    assert len(payload) == codec.payload_bytes(count)
    parsed = codec.parse(payload, count)
    back = parsed.values()
    if codec.bits == 32:
        assert back.equal(values)
        return
    steps = parsed.scales.repeat_interleave(codec.block)[:count]
    # a scale rounded down to bfloat16 leaves the largest value of its block up to 2^-9 of it short
    tops = values.abs().split(codec.block)
    short = torch.cat([(block.max() * 2.0**-8).expand_as(block) for block in tops])
    margin = steps * (1.0 if codec.unsigned else 0.5) + short
    assert bool(((values - back).abs() <= margin).all())


@pytest.mark.parametrize("codec", SIGNED + UNSIGNED, ids=str)
def test_encoding_what_was_decoded_keeps_the_values(codec: Codec) -> None:
    once = codec.parse(codec.encode(spread(1_001, 1, unsigned=codec.unsigned)), 1_001).values()
    twice = codec.parse(codec.encode(once), 1_001).values()
    assert torch.allclose(once, twice, rtol=1e-2, atol=0.0)


def test_a_four_bit_payload_has_the_documented_bytes() -> None:
    values = torch.tensor([7.0, -7.0, 1.0, 0.0, 3.4])
    payload = Codec(4, 128).encode(values)
    # codes 7, -7, 1, 0, 3 stored plus 8; low nibble first; spare nibble 8; scale 1.0 as bfloat16
    assert payload == bytes([0x1F, 0x89, 0x8B, 0x80, 0x3F])


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_root_of_a_second_moment_is_never_rounded_to_zero(bits: int) -> None:
    values = torch.tensor([1.0, 1e-9, 0.0, 1e-30] + [0.0] * 124 + [1e-40] + [0.0] * 127)
    codec = Codec(bits, 128, unsigned=True)
    back = codec.parse(codec.encode(values), values.numel()).values()
    assert bool((back > 0).all())
    zeros = torch.zeros(200)
    assert codec.parse(codec.encode(zeros), 200).values().equal(zeros)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, VALUE_MAX * 2])
@pytest.mark.parametrize("codec", SIGNED, ids=str)
def test_values_that_are_not_finite_are_not_encoded(codec: Codec, bad: float) -> None:
    values = torch.zeros(300)
    values[200] = bad
    with pytest.raises(DivergedError, match="diverged"):
        codec.encode(values)


@pytest.mark.parametrize("codec", SIGNED, ids=str)
def test_the_norm_is_that_of_the_values(codec: Codec) -> None:
    parsed = codec.parse(codec.encode(spread(4_000, 9)), 4_000)
    reference = math.fsum(float(value) ** 2 for value in parsed.values().tolist())
    assert parsed.norm_squared() == pytest.approx(reference, rel=1e-13)


@pytest.mark.parametrize(
    ("scale", "codes"),
    [
        (0x7F80, 0x88),  # infinity
        (0x7FC0, 0x88),  # not a number
        (0xBF80, 0x88),  # negative
        (0x8000, 0x88),  # minus zero
        (0x7F00, 0x88),  # too large
        (0x3F80, 0x08),  # the code -8
        (0x0000, 0x98),  # a value in a block without scale
    ],
)
def test_hostile_four_bit_payloads_are_refused(scale: int, codes: int) -> None:
    codec = Codec(4, 128)
    good = bytes([0x88] * 64) + (0x3F80).to_bytes(2, "little")
    codec.parse(good, 128)
    with pytest.raises(RefusedError):
        codec.parse(bytes([0x88] * 63 + [codes]) + scale.to_bytes(2, "little"), 128)


def test_sizes_and_ends_are_checked() -> None:
    codec = Codec(4, 128)
    payload = codec.encode(spread(129, 1))
    for wrong in (b"", payload[:-1], payload + b"\0"):
        with pytest.raises(RefusedError, match="bytes instead of"):
            codec.parse(wrong, 129)
    loose = bytearray(payload)
    loose[64] ^= 0x10  # the spare nibble
    with pytest.raises(RefusedError, match="beyond its end"):
        codec.parse(bytes(loose), 129)
    raw = Codec(32, 128)
    for bad in (math.nan, math.inf, VALUE_MAX * 2):
        with pytest.raises(RefusedError):
            raw.parse(torch.tensor([0.0, bad]).numpy().tobytes(), 2)
    with pytest.raises(RefusedError):
        Codec(32, 128, unsigned=True).parse(torch.tensor([-1.0]).numpy().tobytes(), 1)


@pytest.mark.parametrize("codec", SIGNED + UNSIGNED, ids=str)
def test_random_bytes_are_refused_or_give_finite_values(codec: Codec) -> None:
    generator = random.Random(20)
    for _ in range(60):
        payload = generator.randbytes(codec.payload_bytes(130))
        try:
            parsed = codec.parse(payload, 130)
        except RefusedError:
            continue
        assert bool(torch.isfinite(parsed.values()).all())
        assert math.isfinite(parsed.norm_squared())
