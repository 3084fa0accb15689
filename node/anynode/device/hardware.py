"""The hardware class of a trainer: within one class, the same work gives the same bits.

ATen, MKL and oneDNN each choose their instructions for themselves, so all three are pinned together with the
thread count before torch is imported. AVX2 is the pin wherever a processor has it: nearly all do, and in this
project's measurements it trains as fast as AVX-512. The processor's maker is part of the class, because MKL
promises equal results on one instruction set only among processors of its own maker.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

_X86 = ("x86_64", "AMD64")


def pinned_environment() -> dict[str, str]:
    """The variables to set before torch is imported, for this machine: one thread, one instruction set."""
    pins = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_DYNAMIC": "FALSE"}
    if platform.machine() not in _X86:
        return pins
    _, flags = _processor()
    if {"avx2", "fma"} <= flags:
        return pins | {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    return pins | {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def hardware_class(environment: Mapping[str, str] | None = None) -> str:
    """One line that names device, processor, versions, data type, threads and instruction sets of this
    process.

    Imports torch. Equal lines are a promise that replay is bitwise equal; audits compare hashes only within a
    class.
    """
    import torch  # noqa: PLC0415  (heavy, and only the trainer needs it)

    values = os.environ if environment is None else environment
    maker, _ = _processor()
    return " ".join(
        [
            "cpu",
            platform.system().lower(),
            platform.machine().lower(),
            maker,
            f"torch-{torch.__version__}",
            "float32",
            f"threads-{torch.get_num_threads()}",
            f"aten-{torch.backends.cpu.get_cpu_capability().lower()}",
            f"mkl-{values.get('MKL_CBWR', 'auto').lower()}",
            f"onednn-{values.get('ONEDNN_MAX_CPU_ISA', 'auto').lower()}",
        ]
    )


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's maker and its instruction-set flags, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor().replace(" ", "-").lower() or "unknown", frozenset()
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    maker = fields.get("vendor_id") or fields.get("CPU implementer") or "unknown"
    return maker.replace(" ", "-").lower(), frozenset(fields.get("flags", "").split())
