"""Where the micro model trains, for how long and in which precision; results that are written whole or not at all."""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import time
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


def add_time_options(parser: argparse.ArgumentParser) -> None:
    """Add what bounds a training besides ``--minutes``, and how often it writes."""
    parser.add_argument("--deadline", type=float, help="end by this time too, in seconds since 1970")
    parser.add_argument("--checkpoint-seconds", type=float, default=150)
    parser.add_argument("--log-seconds", type=float, help="between lines of the log; every few steps if not given")


class Clock:
    """How much of a training's time has passed.

    Args:
        minutes: of the training, from now on.
        deadline: seconds since 1970, if the training has to end by then.
    """

    def __init__(self, minutes: float, deadline: float | None = None) -> None:
        left = minutes * 60 if deadline is None else min(minutes * 60, deadline - time.time())
        self.start, self.seconds = time.monotonic(), max(left, 0.001)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start


def on_gpu(device: str) -> bool:
    """Whether the device is a GPU."""
    return torch.device(device).type == "cuda"


def autocast(device: str) -> AbstractContextManager:
    """Bfloat16 where the device has it, else float32."""
    kind = torch.device(device).type
    capabilities = torch.cpu.get_capabilities() if kind == "cpu" else {}
    fast = kind == "cuda" or any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)
    return torch.autocast(kind, torch.bfloat16, enabled=fast)


def prepare_device(args: argparse.Namespace) -> str:
    """Set threads and fast matrix products; returns the device."""
    torch.set_num_threads(args.threads)
    if on_gpu(args.device):
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
        gpu = on_gpu(device)
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
        if self.count == 1:
            return number  # a GPU would be waited for
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


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in the place of another, which stays until the new one is there."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def out_of_memory(error: Exception) -> bool:
    """Whether a GPU had no room; a smaller batch may have it."""
    return isinstance(error, torch.cuda.OutOfMemoryError)
