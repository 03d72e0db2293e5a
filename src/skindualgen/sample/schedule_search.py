"""Schedules for few steps, searched on the trajectories that an adapter's own pairs take from noise to clean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from skindualgen.contracts import InputError
from skindualgen.model.adapter import WEIGHTS_FILE, read_header, write_weights
from skindualgen.planning.looks import UNKNOWN, completed
from skindualgen.planning.requests import PairRequest, places_in_turn, requests_from_prompts
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.trajectories import end_points, follow, relative_errors, step_costs

TEACHER_STEPS = 60
"""of the teacher, which is searched on; 4, 5, 6, 10, 12, 15, 20 and 30 evenly spaced steps are among their points"""
TRAJECTORIES = 32
USUAL_DIAGNOSES = ("nevus", "melanoma")
"""asked for where an adapter does not say which it was trained on"""


@dataclass(frozen=True)
class FoundSchedule:
    """What was found for a number of steps.

    Attributes:
        timesteps: of the steps.
        usual_error, error: mean relative L2 distance from the teacher's ends, of pairs that were not
            searched on: in the scheduler's own spacing, and in this schedule.
    """

    timesteps: list[int]
    usual_error: float
    error: float

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.timesteps)

    @property
    def better(self) -> bool:
        """Whether it comes nearer to the teacher than the usual spacing."""
        return self.error < self.usual_error


def cheapest_path(costs: NDArray[np.float64], steps: int) -> list[int]:
    """Points from which ``steps`` steps lead from the first point to the last at the least sum of costs.

    By dynamic programming over (steps left, point), as in GITS (Chen et al. 2024, arXiv 2405.11326).

    Args:
        costs: [n + 1, n + 1], from row to column; only steps to later points are taken.
        steps: 1 to n.

    Returns:
        ``steps`` places, rising, the first being 0; the last step leads from the last of them to n.

    Example:
        >>> inf = np.inf
        >>> cheapest_path(np.array([[inf, 1, 5, 9], [inf, inf, 1, 3], [inf, inf, inf, 1], [inf] * 4]), 2)
        [0, 1]
    """
    end = len(costs) - 1
    later = np.where(np.triu(np.ones(costs.shape, bool), 1), costs, np.inf)
    left = np.full(end + 1, np.inf)  # least cost from each point to the end, in as many steps as are left
    left[end] = 0.0
    following = []
    for _ in range(steps):
        total = later + left  # [n + 1, n + 1]
        following.append(total.argmin(axis=1))
        left = total.min(axis=1)
    path = [0]
    for nearest in reversed(following[1:]):
        path.append(int(nearest[path[-1]]))
    return path


def search_schedules(
    pipeline: SkinDualGenPipeline,
    requests: Sequence[PairRequest],
    steps: Sequence[int],
    *,
    teacher_steps: int = TEACHER_STEPS,
    batch_size: int = 8,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[FoundSchedule]:
    """Find the schedule of each number of steps that loses least of an adapter's own guided trajectories in many steps.

    Args:
        pipeline: of the adapter, with a scheduler that goes by given timesteps, as `from_adapter` gives it.
        requests: an even number of different seeds: the first half is searched on, the other one measured.
        steps: numbers of steps, each from 2 and below ``teacher_steps``.
        teacher_steps: of the trajectories.
        batch_size: pairs drawn together.
        report: called with a stage, what is done of it, and all.

    Raises:
        InputError: numbers of steps or of requests that cannot be.
    """
    _check(steps, teacher_steps, len(requests))
    usual = _with_schedules(pipeline, None)
    trajectories = follow(
        usual, requests, teacher_steps, batch_size=batch_size, report=lambda *done: report("teacher", *done)
    )
    half = len(requests) // 2
    searched = replace(
        trajectories, points=trajectories.points[:, :half], predictions=trajectories.predictions[:, :half]
    )
    costs, target = step_costs(searched, pipeline.scheduler), trajectories.points[-1, half:]
    found = []
    for done, count in enumerate(steps):
        report("measuring", done, len(steps))
        timesteps = [trajectories.timesteps[place] for place in cheapest_path(costs, count)]
        errors = [
            float(relative_errors(end_points(each, requests[half:], count, batch_size=batch_size), target).mean())
            for each in (usual, _with_schedules(pipeline, {str(count): timesteps}))
        ]
        found.append(FoundSchedule(timesteps, *errors))
    report("measuring", len(steps), len(steps))
    return found


def recorded_requests(appearances: Mapping[str, Sequence[str]] | None, count: int, seed: int) -> list[PairRequest]:
    """Requests as an adapter's training pairs were told: their diagnoses in their shares, with words for their looks.

    Args:
        appearances: words by diagnosis, as the adapter has them; without any, `USUAL_DIAGNOSES`.
        count: of requests.
        seed: of all that is drawn.
    """
    known = [name for name, looks in sorted((appearances or {}).items()) if name != UNKNOWN for _ in looks]
    diagnoses = known or list(USUAL_DIAGNOSES)
    drawn = [diagnoses[place] for place in places_in_turn(len(diagnoses), count, seed)]
    prompts = [(f"a dermoscopic image of a {name}", {"diagnosis": name}) for name in drawn]
    requests = requests_from_prompts(prompts, count, seed)
    return [completed(request, appearances) for request in requests] if appearances else requests


def record_schedules(folder: Path, found: Sequence[FoundSchedule]) -> None:
    """Write schedules into an adapter's header, in place of those for the same numbers of steps.

    One that is not better than the usual spacing is not written. The tensors stay; the file's hash, which every
    generated pair carries, becomes another, so that a folder of pairs is not gone on with in another schedule.
    """
    header = read_header(folder)
    earlier: dict[str, Any] = header["recipe"].get("schedules") or {}
    kept = {
        steps: timesteps for steps, timesteps in earlier.items() if int(steps) not in {each.steps for each in found}
    }
    schedules = kept | {str(each.steps): each.timesteps for each in found if each.better}
    if schedules != earlier:
        header["recipe"] |= {"schedules": dict(sorted(schedules.items(), key=lambda item: int(item[0])))}
        write_weights(folder, load_file(folder / WEIGHTS_FILE), header)


def _with_schedules(pipeline: SkinDualGenPipeline, schedules: dict[str, list[int]] | None) -> SkinDualGenPipeline:
    """The same modules in a pipeline that goes by these schedules, and shows no bar."""
    other = SkinDualGenPipeline.from_pipe(pipeline, schedules=schedules)
    other.set_progress_bar_config(disable=True)
    return other


def _check(steps: Sequence[int], teacher_steps: int, requests: int) -> None:
    if not steps or not all(2 <= count < teacher_steps for count in steps) or len(set(steps)) < len(steps):
        got = f"schedules for {', '.join(map(str, steps)) or 'no'} steps"
        expected = f"different numbers from 2 to {teacher_steps - 1}, one less than the teacher's steps"
        raise InputError(got, expected, "change the numbers, or give the teacher more steps")
    if requests < 2 or requests % 2:
        raise InputError(f"{requests} requests", "as many to search on as to measure", "give an even number")
