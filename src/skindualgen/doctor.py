"""What `skindualgen doctor` looks at: software, devices, memory, disk, bundled weights, extras."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
import torch
from packaging.requirements import Requirement

from skindualgen.files import BUNDLED
from skindualgen.hardware import GIB, available_devices, training_precision, usable_cores

State = Literal["ok", "limited", "missing"]


MICRO_MEMORY_GIB = 2.0
"""GiB of free memory that drawing with the bundled model and fine-tuning it need, torch itself included."""

DISK_GIB = 10.0
"""GiB of free disk that Stable Diffusion 2.0 in fp32 (5 GB), a run and its samples ask for."""

EXTRA_PURPOSE = {
    "bench": "independent judges: features, segmenter, classifier",
    "dev": "test tools",
}
"""What the extras are for that this version has commands for."""


@dataclass(frozen=True)
class Finding:
    """One thing that was examined: the topic, its state, what was found, and what to do about it (empty: nothing)."""

    topic: str
    state: State
    found: str
    remedy: str = ""


def examine(folder: Path | None = None) -> list[Finding]:
    """Examine everything; ``folder`` is where runs will be written (its disk counts), by default the working folder."""
    return [
        _software(),
        *_devices(),
        _precision(),
        _memory(),
        _disk(folder or Path.cwd()),
        bundled_weights(),
        *extras(),
    ]


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
                "none that PyTorch can use: the bundled model runs well, Stable Diffusion 2.0 needs minutes a picture",
                "on a machine with a GPU, install the PyTorch build that fits its driver",
            )
        )
    cores, threads = usable_cores(), torch.get_num_threads()
    if threads > cores:
        remedy = f"set OMP_NUM_THREADS={cores}: more threads than processors slow each other down"
        return [*findings, Finding("processor", "limited", f"{cores} cores, {threads} threads", remedy)]
    return [*findings, Finding("processor", "ok", f"{cores} cores, {threads} threads")]


def _precision() -> Finding:
    device = available_devices()[0]
    return Finding("precision", "ok", f"{training_precision(device)} is what training takes on {device}, by default")


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
    files = sorted(BUNDLED.rglob("*.safetensors"))
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
