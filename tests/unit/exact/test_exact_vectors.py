"""The committed vectors hold in this process and under every instruction set that ATEN can be told to use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anynode.exact import vectors
from anynode.exact.arithmetic import require_ieee
from anynode_contracts.errors import UserError


def test_the_committed_vectors_hold() -> None:
    assert vectors.compute() == vectors.committed()
    vectors.check_vectors()


def test_a_machine_that_computes_another_result_does_no_exact_arithmetic() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush small numbers to zero")
    try:
        with pytest.raises(UserError, match=r"computes another result than others do \("):
            vectors.check_vectors()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("capability", ["default", pytest.param("avx2", marks=pytest.mark.deep)])
def test_the_vectors_hold_with_other_instructions(capability: str) -> None:
    if capability not in _capabilities():
        capability = "default"  # a processor without AVX2 can only be told to use its plain instructions
    # MKL's square roots are none of IEEE 754 under its oldest setting, and on some processors under any.
    environment = dict(os.environ) | {"ATEN_CPU_CAPABILITY": capability, "MKL_CBWR": "COMPATIBLE"}
    script = Path(__file__).with_name("exact_vectors.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == vectors.committed()


def test_flushing_small_numbers_to_zero_is_noticed() -> None:
    require_ieee()
    if torch.set_flush_denormal(True):
        try:
            with pytest.raises(UserError, match="does not round as IEEE 754"):
                require_ieee()
        finally:
            torch.set_flush_denormal(False)


def _capabilities() -> list[str]:
    known = ["default", "avx2", "avx512"]
    best = torch.backends.cpu.get_cpu_capability().lower()
    return known[: known.index(best) + 1] if best in known else ["default"]
