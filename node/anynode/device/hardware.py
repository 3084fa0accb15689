"""The device of a trainer and its hardware class: within one class, the same work gives the same bits.

ATen, MKL and oneDNN each choose their instructions for themselves, so all three are pinned together with the
thread count before torch is imported. AVX2 is the pin wherever a processor has it: nearly all do, and in this
project's measurements it trains as fast as AVX-512. The processor's maker is part of the class, because MKL
promises equal results on one instruction set only among processors of its own maker. On a CUDA card cuBLAS is held to
one workspace, which must be said before the card is first used; a card's class is its name, capability and libraries.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from anynode_contracts.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]

_X86 = ("x86_64", "AMD64")


def pinned_environment() -> dict[str, str]:
    """The variables to set before torch is imported, for this machine: one thread, one instruction set."""
    pins = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_DYNAMIC": "FALSE"}
    pins["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if platform.machine() not in _X86:
        return pins
    _, flags = _processor()
    if {"avx2", "fma"} <= flags:
        return pins | {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    return pins | {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def choose_device(wanted: Device) -> str:
    """The device to train on. Raises ``UserError`` when it is asked for by name and is not there. Imports torch."""
    import torch  # noqa: PLC0415  (heavy, and only the trainer needs it)

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, found in there.items() if found)
    if not there[wanted]:
        raise UserError(f"PyTorch finds no {wanted} device here; install its build for it, or use the device auto")
    return wanted


def choose_bfloat16(device: str, wanted: Precision) -> bool:
    """Whether forward and backward run in bfloat16: by itself only on a CUDA card that has it. Imports torch."""
    import torch  # noqa: PLC0415

    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bfloat16" and device == "cuda" and not native:
        raise UserError("this CUDA card computes no bfloat16; use the precision float32 or auto")
    return native if wanted == "auto" else wanted == "bfloat16"


def hardware_class(device: str = "cpu", *, bfloat16: bool = False, environment: Mapping[str, str] | None = None) -> str:
    """One line that names device, processor, versions, data type, threads and instruction sets of this
    process.

    Imports torch. Equal lines are a promise that replay is bitwise equal; audits compare hashes only within a
    class.
    """
    import torch  # noqa: PLC0415  (heavy, and only the trainer needs it)

    values = os.environ if environment is None else environment
    maker, _ = _processor()
    precision = "bfloat16" if bfloat16 else "float32"
    machine = [device, platform.system().lower(), platform.machine().lower()]
    if device == "cuda":
        name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        cudnn: int = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        libraries = [f"cuda-{torch.version.cuda}", f"cudnn-{cudnn}"]
        card = [name.replace(" ", "-").lower(), f"sm-{major}{minor}"]
        return " ".join([*machine, *card, f"torch-{torch.__version__}", *libraries, precision])
    if device == "mps":
        return " ".join([*machine, platform.release(), f"torch-{torch.__version__}", precision])
    return " ".join(
        [
            *machine,
            maker,
            f"torch-{torch.__version__}",
            precision,
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
