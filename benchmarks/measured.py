"""Time and peak memory of a command, each in a process of its own, and what is written about the machine.

Nothing here imports torch: on Linux a child's peak starts at what its parent holds when it is forked.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from skindualgen.files import versions

GIB = 1024**3
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""unit of ru_maxrss: bytes on macOS, KiB elsewhere"""
SHOWN_VERSIONS = ("skindualgen", "python", "torch", "diffusers", "transformers", "peft", "accelerate")
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
"""of measured processes: resident memory says nothing about a GPU's; the libraries' progress bars say little here"""


@dataclass(frozen=True)
class Measured:
    """Wall seconds, peak resident memory (memory-mapped weights included) in GiB, and standard output."""

    seconds: float
    peak_gib: float
    output: str


def run_measured(command: Sequence[str]) -> Measured:
    """Run a command to its end on the CPU; its standard error goes where this process's goes.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=os.environ | ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)  # getrusage(RUSAGE_CHILDREN) has the largest of all children only
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, text)
    return Measured(seconds, usage.ru_maxrss * MAXRSS_BYTES / GIB, text)


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and how busy they were over the last minute; nothing that names the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def heading(title: str, command: str, of: dict[str, Any]) -> list[str]:
    """First lines of a result: title, command, date, machine as of ``machine()``, versions."""
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if name in SHOWN_VERSIONS)
    return [
        f"# {title}",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {of['cpu']}, {of['cores']} cores, {of['memory_gib']} GiB "
        f"(load before: {of['load_before']}); {used}.",
        "",
    ]


def row(cells: Sequence[object]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [row(head), row(["---"] * len(head)), *(row(cells) for cells in rows)]
