"""How fast a run is, what it waits for, and how much memory it has taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from skindualgen.hardware import GIB
from skindualgen.training.batches import Batch


class Throughput:
    """Counts around the batches that a run takes: an iterator over them that knows how long each one was waited for.

    Args:
        batches: to pass on.
        pairs: per optimiser step, over all processes.
        device: whose memory is reported; of a CPU, the process's.
    """

    def __init__(self, batches: Iterator[Batch], pairs: int, device: torch.device) -> None:
        self.batches, self.pairs, self.device = batches, pairs, device
        self.steps, self.waited, self.pause = 0, 0.0, 0.0
        self.start = time.monotonic()

    def __iter__(self) -> Throughput:
        return self

    def __next__(self) -> Batch:
        start = time.monotonic()
        batch = next(self.batches)
        self.waited += time.monotonic() - start
        return batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here, for validation and checkpoints, is not counted as training."""
        start = time.monotonic()
        yield
        self.pause += time.monotonic() - start

    def step_done(self) -> dict[str, float]:
        """Count a step; return pairs a second, the share of time that batches were waited for, and memory in GiB."""
        self.steps += 1
        elapsed = max(time.monotonic() - self.start - self.pause, 1e-9)
        self.row = {
            "pairs_per_second": self.steps * self.pairs / elapsed,
            "data_wait_share": self.waited / elapsed,
            "memory_gib": self._memory() / GIB,
        }
        return self.row

    def line(self) -> str:
        """The newest numbers, for a progress line."""
        rate, wait, memory = (self.row[name] for name in ("pairs_per_second", "data_wait_share", "memory_gib"))
        return f"{rate:.1f} pairs/s  data wait {wait:.0%}  {memory:.1f} GiB"

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return psutil.Process().memory_info().rss
