"""Where the micro model trains and in which precision; one file of state, written whole or not at all."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "amx_tile", "bf16")
"""any of them makes bfloat16 worth while on a CPU; without, it is emulated and many times slower"""


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--threads``."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")


def autocast(device: str) -> AbstractContextManager:
    """Bfloat16 where the device has it, else float32."""
    kind = torch.device(device).type
    capabilities = torch.cpu.get_capabilities() if kind == "cpu" else {}
    fast = kind == "cuda" or any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)
    return torch.autocast(kind, torch.bfloat16, enabled=fast)


def prepare_device(args: argparse.Namespace) -> str:
    """Set threads and fast matrix products; returns the device."""
    torch.set_num_threads(args.threads)
    if torch.device(args.device).type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    return args.device


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write beside the target, then replace it."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
