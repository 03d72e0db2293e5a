"""Where the micro model trains and in which precision; one file of state, written whole or not at all."""

from __future__ import annotations

import argparse
import atexit
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")
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


class Processes:
    """This process among those of ``torchrun``, which train one model together; alone without it.

    Args:
        device: cpu (gloo) or cuda (nccl).
    """

    def __init__(self, device: str) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.device = device
        gpu = torch.device(device).type == "cuda"
        if gpu and self.count > 1:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if self.count > 1:
            torch.distributed.init_process_group("nccl" if gpu else "gloo")
            atexit.register(torch.distributed.destroy_process_group)  # gloo's threads else abort a process that ends

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their mean over the processes, in one message."""
        if self.count > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            torch.distributed.all_reduce(flat)
            parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def same(self, number: float) -> float:
        """Mean of a number over the processes, the same to the last bit in all of them."""
        tensor = torch.tensor(number, dtype=torch.float64, device=self.device)
        self.mean([tensor])
        return tensor.item()

    def first_then_all(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns, called by the first process before the others: they find its files."""
        made = make() if self.first else None
        self.same(0)
        return make() if made is None else made


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write beside the target, then replace it."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
