"""When a run ends before its last step: told to by a signal, or because validation stopped getting better."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator

HIGHER_IS_BETTER = {"val_loss": False, "val_dice_read": True}


class TrainingStopped(KeyboardInterrupt):
    """A run was told to stop by SIGINT or SIGTERM, and has left a checkpoint.

    Args:
        step: of the checkpoint.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped at step {step}")


class TrainingPruned(Exception):  # noqa: N818 - nothing went wrong
    """A run was given up at a validation, as the caller of ``train`` asked; it has left a checkpoint.

    Args:
        step: of the validation.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"given up at step {step}")


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying; the loop looks after each step. A second one is not caught."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process raises the flag: a launcher need not pass a signal on to all of them."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


@dataclass
class Best:
    """The best validation so far.

    Args:
        by: name of the number that is compared.
        value: the best one.
        step: where it was reached.
        since: validations after it.
    """

    by: str
    value: float = math.nan
    step: int = 0
    since: int = 0

    def note(self, value: float, step: int) -> bool:
        """Take in a validation; True where it is the best so far."""
        better = value > self.value if HIGHER_IS_BETTER[self.by] else value < self.value
        if math.isnan(self.value) or better:
            self.value, self.step, self.since = value, step, 0
            return True
        self.since += 1
        return False

    def state(self) -> dict[str, Any]:
        """For a checkpoint; ``Best(**state)`` reads it back."""
        return asdict(self)
