"""Test vectors of exact arithmetic: hashes of its results on fixed inputs, the same on every machine.

They lie beside this module. A process computes them again before it does exact arithmetic, and does none when one
differs. Inputs come from integers alone, so that no random generator's version matters.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from anynode.exact.arithmetic import half_cosine, whole_power
from anynode.exact.gradient import GradientRules, adamw_, clip_, sgd_
from anynode.exact.layout import ChunkSpec, Section
from anynode.exact.outer import NextRound, OuterRules, apply_round
from anynode.exact.quantise import Codec
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk
from anynode.exact.state import State
from anynode.exact.update import MeanGradient, Trained, UpdatePlace, build_update
from anynode_contracts.canonical import canonical_json, hash_hex
from anynode_contracts.errors import UserError

FILE = "vectors.json"
_SECTIONS: tuple[Section, ...] = ("delta", "v")
_COUNT = 5_001
_VALUES = 700
_JOB_ID = "ab" * 32
_GRADIENTS = GradientRules("adamw", 0.9, 0.99, 1e-8, 0.9, 0.1, 0.5, ExchangeRules(4, 128, gradients=True))


def check_vectors() -> None:
    """Raise ``UserError`` unless this process computes every committed vector. Takes some tens of milliseconds."""
    found, expected = compute(), committed()
    differing = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
    if differing:
        raise UserError(
            f"this machine computes another result than others do ({differing[0]}, and {len(differing) - 1} more of "
            f"{len(expected)} test vectors); install the PyTorch build that AnyNode names, or use another processor"
        )


def committed() -> dict[str, str]:
    """The vectors as they were published, by name."""
    text = resources.files("anynode.exact").joinpath(FILE).read_text(encoding="utf-8")
    vectors: dict[str, str] = json.loads(text)
    return vectors


def compute() -> dict[str, str]:
    """Every vector, by name, as this process computes it."""
    vectors: dict[str, str] = {}
    for bits in (4, 8, 16, 32):
        for unsigned in (False, True):
            codec = Codec(bits, 128, unsigned)
            payload = codec.encode(spread(_COUNT, bits, unsigned=unsigned))
            name = f"encode {bits} bits {'unsigned' if unsigned else 'signed'}"
            vectors[name] = hash_hex(payload)
            vectors[f"norm² {name}"] = codec.parse(payload, _COUNT).norm_squared().hex()
        rules = ExchangeRules(bits, 128, 1.5)
        vectors |= {f"reduce {bits} bits {section}": _reduced(rules, section) for section in _SECTIONS}
        vectors[f"reduce {bits} bits gradient"] = _reduced(replace(rules, gradients=True), "delta")
    small = spread(_COUNT, 8, unsigned=True) * torch.tensor(2.0**-115)
    vectors["encode 16 bits of subnormal numbers"] = hash_hex(Codec(16, 128, unsigned=True).encode(small))
    vectors["outer step and moments"] = _outer_step()
    vectors["update"] = _updated(_trained(), ExchangeRules(4, 128), refresh=True)
    gradient = MeanGradient(spread(_VALUES, 7), steps=3, samples=12)
    vectors["gradient update"] = _updated(gradient, _GRADIENTS.exchange, refresh=False)
    return vectors | _gradient_steps() | _scalars()


def spread(count: int, seed: int, *, unsigned: bool = False) -> Tensor:
    """``count`` float32 values over many magnitudes, some zero, some whole blocks zero, by a linear congruence."""
    state = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 7_919 + 1)) * np.uint64(6364136223846793005)
    state ^= state >> np.uint64(29)
    state *= np.uint64(1442695040888963407)
    state ^= state >> np.uint64(32)
    mantissa = (state & np.uint64(0xFFFFF)).astype(np.int64) - (1 << 19)
    power = ((state >> np.uint64(24)) & np.uint64(15)).astype(np.int64) - 30
    values = np.ldexp(mantissa.astype(np.float64), power).astype(np.float32)
    values[(state >> np.uint64(40)) % np.uint64(11) == 0] = 0.0
    values[128:256] = 0.0
    return torch.from_numpy(np.abs(values) if unsigned else values)


def _payload(section: Section, count: int, seed: int, bits: int = 4) -> bytes:
    return Codec(bits, 128, section == "v").encode(spread(count, seed, unsigned=section == "v"))


def _reduced(rules: ExchangeRules, section: Section) -> str:
    items = [
        Contribution(slot, _payload(section, _COUNT, 20 + slot, rules.bits), 100 + 7 * slot, 20 - slot, slot != 2)
        for slot in range(5)
    ]
    return hash_hex(reduce_chunk(ChunkSpec(0, section, 0, _COUNT), items, rules))


def _trained() -> Trained:
    return Trained(spread(_VALUES, 1), spread(_VALUES, 2), spread(_VALUES, 4, unsigned=True), steps=7, samples=28)


def _vectors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Parameters, a momentum, a first and a second moment."""
    return spread(_VALUES, 1), spread(_VALUES, 2), spread(_VALUES, 3), spread(_VALUES, 4, unsigned=True)


def _updated(done: Trained | MeanGradient, rules: ExchangeRules, *, refresh: bool) -> str:
    return build_update(done, UpdatePlace(_JOB_ID, 3, 1, refresh), rules, hash_hex).root


def _outer_step() -> str:
    first, momentum, m, v = _vectors()
    start = State.initial(_JOB_ID, {"weight": first})
    state = replace(start, momentum=momentum, m=m, v=v)
    results = [_payload(section, _VALUES, 9) for section in _SECTIONS]
    rules = OuterRules(0.7, 0.9, ExchangeRules(4, 128))
    after = apply_round(state, results, rules, refresh=True, steps_advance=20, after=NextRound(1, 0, ()))
    return _hashed(after.params, after.momentum, after.m, after.v)


def _gradient_steps() -> dict[str, str]:
    """Three steps of either optimizer, with gradients that are clipped."""
    found = {}
    params, m, momentum, v = _vectors()
    norms = []
    for step in range(41, 44):
        gradient = spread(_VALUES, step)
        norms.append(clip_(gradient, _GRADIENTS.clip_norm).hex())
        adamw_(params, m, v, gradient, step=step, learning_rate=0.003, rules=_GRADIENTS)
    found["clipping norms"] = hash_hex(canonical_json(norms))
    found["gradient AdamW"] = _hashed(params, m, v)
    for step in range(41, 44):
        sgd_(params, momentum, spread(_VALUES, step), learning_rate=0.003, rules=_GRADIENTS)
    found["gradient SGD"] = _hashed(params, momentum)
    return found


def _scalars() -> dict[str, str]:
    cosines = [half_cosine(step / 97).hex() for step in range(98)]
    powers = [whole_power(base, exponent).hex() for base in (0.9, 0.99, 0.999) for exponent in (0, 1, 7, 1_000, 99_999)]
    return {"cosines": hash_hex(canonical_json(cosines)), "powers": hash_hex(canonical_json(powers))}


def _hashed(*vectors: Tensor) -> str:
    return hash_hex(b"".join(vector.numpy().astype("<f4").tobytes() for vector in vectors))
