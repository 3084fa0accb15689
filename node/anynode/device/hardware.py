"""The device of a trainer and its hardware class: within one class, the same work gives the same bits.

ATen, MKL and oneDNN each choose their instructions for themselves, so all three are pinned together with the
thread count before torch is imported. AVX2 is the pin wherever a processor has it: nearly all do, and in this
project's measurements it trains as fast as AVX-512, which can be asked for. The processor's maker is part of the
class, because MKL promises equal results on one instruction set only among processors of its own maker. On a CUDA card
cuBLAS is held to one workspace, which must be said before the card is first used; a card's class is its name,
capability and libraries. Each class also has a fingerprint of results in it (`numerics.py`).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from anynode.device.numerics import numerics_fingerprint
from anynode_contracts.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
Instructions = Literal["auto", "avx2", "avx512"]
THREADS_MAX = 256

_X86 = ("x86_64", "AMD64")
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
_AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
_OLDER = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def pinned_environment(threads: int = 1, instructions: Instructions = "auto") -> dict[str, str]:
    """The variables to set before torch is imported, for this machine: the threads and one instruction set.

    Raises ``UserError`` for more threads than processors, or instructions that the processor has not.
    """
    there = processors()
    if threads > there:
        raise UserError(f"{threads} threads were asked for and this machine has {there} processors; ask for fewer")
    # A thread more or less would cut every sum elsewhere, so neither library may choose for itself.
    pins = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    pins |= {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    pins["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while they wait take the machine from everything else
    best = available_instructions()
    if instructions != "auto" and instructions not in best:
        raise UserError(f"this processor has no {instructions}; use the instructions auto")
    if platform.machine() not in _X86:
        return pins
    if instructions == "avx512":
        return pins | _AVX512
    return pins | (_AVX2 if "avx2" in best else _OLDER)


def available_instructions() -> tuple[Instructions, ...]:
    """The instruction sets that can be asked for here by name."""
    if platform.machine() not in _X86:
        return ()
    _, flags = _processor()
    found: list[Instructions] = []
    if {"avx2", "fma"} <= flags:
        found.append("avx2")
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
            found.append("avx512")
    return tuple(found)


def processors() -> int:
    """How many processors this process may use, and so how many threads a class may have here."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(count or 1, THREADS_MAX)


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
    """One line that names device, processor, versions, data type, threads, instruction sets and numerics of this
    process.

    Imports torch. Equal lines are a promise that replay is bitwise equal; audits compare hashes only within a
    class.
    """
    import torch  # noqa: PLC0415  (heavy, and only the trainer needs it)

    values = os.environ if environment is None else environment
    maker, _ = _processor()
    precision = "bfloat16" if bfloat16 else "float32"
    numerics = f"numerics-{numerics_fingerprint(device)}"
    machine = [device, platform.system().lower(), platform.machine().lower()]
    if device == "cuda":
        name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        cudnn: int = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        libraries = [f"cuda-{torch.version.cuda}", f"cudnn-{cudnn}"]
        card = [name.replace(" ", "-").lower(), f"sm-{major}{minor}"]
        return " ".join([*machine, *card, f"torch-{torch.__version__}", *libraries, precision, numerics])
    if device == "mps":
        return " ".join([*machine, platform.release(), f"torch-{torch.__version__}", precision, numerics])
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
            numerics,
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


def settings_of(hardware: str) -> tuple[int, Instructions, Precision] | None:
    """Threads, instructions and precision with which a processor may make the class of a line; None for a line that is
    not one of a processor. Whether this machine makes it, a trainer tells.
    """
    words = hardware.split()
    threads = next((int(word[8:]) for word in words if re.fullmatch(r"threads-[0-9]{1,3}", word)), 0)
    if not words or words[0] != "cpu" or not 1 <= threads <= THREADS_MAX:
        return None
    named: dict[str, Instructions] = {"aten-avx2": "avx2", "aten-avx512": "avx512"}
    instructions: Instructions = next((named[word] for word in words if word in named), "auto")
    precision: Precision = "bfloat16" if precision_of(hardware) == "bfloat16" else "float32"
    return threads, instructions, precision


def precision_of(hardware: str) -> str:
    """The data type that a class line names, "float32" or "bfloat16"; empty where it names none."""
    return next((word for word in hardware.split() if word in ("float32", "bfloat16")), "")


def with_precision(hardware: str, precision: Precision) -> str:
    """The line of the class that differs from ``hardware`` in its data type alone."""
    return " ".join(precision if word in ("float32", "bfloat16") else word for word in hardware.split())
