"""Devices, processors and memory of this machine, and the precision that training takes on them."""

from __future__ import annotations

import os
from typing import Literal

import psutil
import torch

from skindualgen.contracts import InputError

GIB = 1024**3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""name of a precision, as settings and options have it -> its type"""


def available_devices() -> list[str]:
    """Return torch device names, the fastest kind first; ``cpu`` is always the last."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def check_device(name: str) -> None:
    """Raise InputError for a torch device that this machine has not."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        got = f"device {name!r} ({' '.join(str(error).split())[:80]})"
        raise InputError(
            got, "cpu, mps, or cuda:0 and so on, as this machine has", "see `skindualgen doctor`"
        ) from error


def free_memory(device: str) -> int:
    """Return the bytes that are free on a torch device; on a processor, and on Apple's shared memory, the machine's."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def usable_cores() -> int:
    """Return how many processors this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training_precision(device: str) -> Literal["fp32", "bf16"]:
    """Return bf16 where the hardware computes in it, else fp32.

    A GPU has it from Ampere on; a CPU with AVX-512 BF16 or AMX. Where it has to be emulated, as on CPUs without these
    instructions, it was seen several hundred times slower than fp32. Apple's GPUs train in fp32, which is tested.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe is not None and probe() for probe in probes)
