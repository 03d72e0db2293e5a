"""What this machine can do: devices, memory, measured speed for each precision, disk, extras, bundled weights.

Precision is chosen by measurement, never by a device's name: bf16 on a CPU without matching instructions has been
seen several hundred times slower than fp32.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
import torch
from packaging.requirements import Requirement

State = Literal["ok", "limited", "missing"]

GIB = 1024**3
BUNDLED_DIR = Path(__file__).parent / "bundled"

MICRO_MEMORY_GIB = 2.0
"""GiB of free memory that drawing with the bundled model and fine-tuning it need, torch itself included."""

DISK_GIB = 10.0
"""GiB of free disk that Stable Diffusion 2.0 in fp32 (5 GB), a run and its samples ask for."""

MEASURE_SECONDS = 0.25
"""Seconds each speed measurement repeats its operation for; one call is always completed."""

EXTRA_PURPOSE = {
    "bench": "independent judges: features, segmenter, classifier",
    "dev": "test tools",
}
"""What the extras are for that this version has commands for."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: the topic, how it stands, what was found, and what to do about it (empty when nothing)."""

    topic: str
    state: State
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Speed:
    """Measured arithmetic of one device at one precision, in 1e9 floating-point operations a second."""

    device: str
    dtype: str
    matmul_gflops: float
    conv_gflops: float


def examine(*, measure: bool = True, folder: Path | None = None) -> list[Finding]:
    """Look at everything.

    Args:
        measure: time matrix products and convolutions too (a few seconds).
        folder: where runs will be written; its disk is looked at. Default: the working folder.
    """
    findings = [_software(), *_devices(), _memory(), _disk(folder or Path.cwd())]
    if measure:
        findings += [_judge_speeds(measure_speeds(device)) for device in available_devices()]
    return [*findings, bundled_weights(), *extras()]


def available_devices() -> list[str]:
    """Return torch device names, the fastest kind first; ``cpu`` is always the last."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def free_memory(device: str) -> int:
    """Return the bytes that are free on a torch device; on a processor, and on Apple's shared memory, the machine's."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def usable_cores() -> int:
    """Return how many processors this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_speeds(device: str, *, seconds: float = MEASURE_SECONDS) -> list[Speed]:
    """Time a 512 x 512 matrix product and a 3 x 3 convolution over 64 channels of 64 x 64, at each precision.

    A precision that the device refuses is left out. fp32 comes first.
    """
    precisions = [torch.float32, torch.bfloat16] + ([] if device == "cpu" else [torch.float16])
    speeds = []
    for dtype in precisions:
        try:
            matrix = torch.ones(512, 512, device=device, dtype=dtype)
            picture = torch.ones(1, 64, 64, 64, device=device, dtype=dtype)
            kernel = torch.ones(64, 64, 3, 3, device=device, dtype=dtype)
            with torch.inference_mode():
                matmul = _rate(partial(torch.mm, matrix, matrix), device, seconds)
                conv = _rate(partial(torch.conv2d, picture, kernel, padding=1), device, seconds)
        except (RuntimeError, TypeError):
            continue
        name = str(dtype).removeprefix("torch.")
        # A multiplication and an addition for each product: 2 n^3, and 2 * pixels * channels^2 * kernel area.
        speeds.append(Speed(device, name, 2 * 512**3 * matmul / 1e9, 2 * 64**2 * 64**2 * 9 * conv / 1e9))
    return speeds


def _rate(operation: Callable[[], torch.Tensor], device: str, seconds: float) -> float:
    """Return calls a second, after one call to warm up."""
    operation()
    _synchronize(device)
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < seconds:
        operation()
        _synchronize(device)
        calls += 1
    return calls / (time.perf_counter() - start)


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def fastest_precision(speeds: list[Speed]) -> Speed:
    """Return the entry whose slower operation is the fastest of all."""
    return max(speeds, key=lambda speed: min(speed.matmul_gflops, speed.conv_gflops))


def _judge_speeds(speeds: list[Speed]) -> Finding:
    best = fastest_precision(speeds)
    table = ", ".join(f"{s.dtype} {s.matmul_gflops:,.0f} / {s.conv_gflops:,.0f}" for s in speeds)
    slower = [s.dtype for s in speeds[1:] if fastest_precision([speeds[0], s]) is speeds[0]]
    verdict = f"fastest: {best.dtype}" + (
        f"; slower than float32 and best avoided: {', '.join(slower)}" if slower else ""
    )
    return Finding(f"speed, {best.device}", "ok", f"{table} GFLOP/s (matrix product / convolution); {verdict}")


def _software() -> Finding:
    names = ("skindualgen", "torch", "diffusers", "transformers", "peft")
    listed = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return Finding("software", "ok", f"Python {platform.python_version()}, {listed}")


def _devices() -> list[Finding]:
    findings = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        findings.append(Finding(f"GPU {index}", "ok", f"{properties.name}, {properties.total_memory / GIB:.1f} GiB"))
    if torch.backends.mps.is_available():
        findings.append(Finding("GPU", "ok", "Apple Metal (mps)"))
    if not findings:
        findings.append(
            Finding(
                "GPU",
                "limited",
                "none that PyTorch can use: the bundled model runs well, Stable Diffusion 2.0 takes minutes a picture",
                "on a machine with a GPU, install the PyTorch build that fits its driver",
            )
        )
    cores, threads = usable_cores(), torch.get_num_threads()
    if threads > cores:
        remedy = f"set OMP_NUM_THREADS={cores}: more threads than processors slow each other down"
        return [*findings, Finding("processor", "limited", f"{cores} cores, {threads} threads", remedy)]
    return [*findings, Finding("processor", "ok", f"{cores} cores, {threads} threads")]


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    free = memory.available / GIB
    found = f"{free:.1f} of {memory.total / GIB:.1f} GiB free"
    if free < MICRO_MEMORY_GIB:
        return Finding("memory", "missing", found, f"free {MICRO_MEMORY_GIB:.0f} GiB: the bundled model needs that")
    return Finding("memory", "ok", f"{found}: enough for the bundled model")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    if free < DISK_GIB:
        return Finding(
            "disk", "limited", f"{free:.1f} GiB free", f"Stable Diffusion 2.0 and a run want {DISK_GIB:.0f} GiB"
        )
    return Finding("disk", "ok", f"{free:.1f} GiB free")


def bundled_weights() -> Finding:
    """Look for the weights that come with the package."""
    files = sorted(BUNDLED_DIR.rglob("*.safetensors"))
    if not files:
        remedy = "install again from the full repository or its wheel: pip install --force-reinstall --no-deps ."
        return Finding("bundled model", "missing", "the package holds no weights", remedy)
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    return Finding("bundled model", "ok", f"{len(files)} weight files, {megabytes:.1f} MB")


def extras() -> list[Finding]:
    """Say for each optional extra of the installed package what is missing and which command fixes it."""
    declared: dict[str, list[Requirement]] = {}
    for line in metadata.requires("skindualgen") or []:
        requirement = Requirement(line)
        named = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if named and named[1] in EXTRA_PURPOSE and requirement.name != "skindualgen":
            declared.setdefault(named[1], []).append(requirement)
    return [_extra(name, declared[name]) for name in EXTRA_PURPOSE if name in declared]


def _extra(name: str, requirements: list[Requirement]) -> Finding:
    missing = [requirement.name for requirement in requirements if not _satisfied(requirement)]
    purpose = EXTRA_PURPOSE[name]
    if missing:
        remedy = f"pip install 'skindualgen[{name}]'"
        return Finding(f"extra {name}", "limited", f"{purpose}; not installed: {', '.join(missing)}", remedy)
    return Finding(f"extra {name}", "ok", f"{purpose}; installed")


def _satisfied(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
