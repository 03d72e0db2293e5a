"""Schedules that were found for few steps: what an adapter may record, and which schedulers can go by them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from diffusers import SchedulerMixin

from skindualgen.contracts import InputError

Schedule = int | Sequence[int]
"""a number of steps in the scheduler's own spacing, or falling timesteps, one for each step"""


def set_schedule(scheduler: SchedulerMixin, schedule: Schedule, device: torch.device) -> None:
    """Prepare a scheduler for so many steps, or for these timesteps."""
    if isinstance(schedule, int):
        scheduler.set_timesteps(schedule, device=device)
    else:
        scheduler.set_timesteps(timesteps=list(schedule), device=device)


def takes_timesteps(scheduler: SchedulerMixin, timesteps: Sequence[int]) -> bool:
    """Whether a scheduler goes by timesteps that it is given; most of diffusers have their own spacing only."""
    if "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters:
        return False
    try:
        set_schedule(copy.deepcopy(scheduler), timesteps, torch.device("cpu"))
    except ValueError:  # such as one that is set to Karras' levels
        return False
    return True


def checked_schedules(recorded: Any, scheduler: SchedulerMixin) -> dict[str, list[int]] | None:
    """Schedules as an adapter's header has them: number of steps -> timesteps. None, as before there were any, stays.

    Raises:
        InputError: something else, or timesteps that do not fall or that the scheduler does not have.
    """
    if recorded is None:
        return None
    most = int(scheduler.config.num_train_timesteps)
    entries: list[tuple[Any, Any]] = list(recorded.items()) if isinstance(recorded, Mapping) else [("", recorded)]
    for steps, timesteps in entries:
        whole = isinstance(timesteps, Sequence) and all(type(each) is int for each in timesteps)
        if not whole or not timesteps or steps != str(len(timesteps)):
            raise _refusal(timesteps, most)
        falling = all(earlier > later for earlier, later in pairwise(timesteps))
        if not falling or timesteps[0] >= most or timesteps[-1] < 0:
            raise _refusal(timesteps, most)
    return {steps: list(timesteps) for steps, timesteps in entries}


def _refusal(got: object, most: int) -> InputError:
    return InputError(
        f"schedule {str(got)[:80]}",
        f"as many falling timesteps below {most} as the number of steps, a text, that names them",
        "search them again with 'skindualgen schedule'",
    )
