"""Problems that the benchmark would meet, found with its own checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skindualgen.benchmarking.arms import Task
from skindualgen.benchmarking.comparison import metrics_of
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.plan import task_data
from skindualgen.benchmarking.run import parts_of, synthetic_among
from skindualgen.benchmarking.trials import Recipe
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.judges.leaks import find_leaks, refuse_leaks
from skindualgen.judges.pictures import PictureSet
from skindualgen.readiness.results import Problem

TASKS: tuple[Task, ...] = ("segment", "classify")


def benchmark_problems(folder: Path) -> tuple[list[Problem], list[str]]:
    """Return what the benchmark of a folder with a held-out split would refuse, and what it would leave out.

    Raises:
        InputError: a file cannot be read.
    """
    options = BenchmarkOptions(tasks=TASKS, real=folder)
    parts, _ = parts_of(options)
    problems, notes, refused = [], [], dict[Task, InputError]()
    if (synthetic := synthetic_among(parts)) is not None:
        problems.append(Problem("synthetic", "stop", synthetic, "leave them out: they are for --generated"))
    leaks = find_leaks(test=parts["test"], train=parts["train"], generated=None, generator_items=None)
    try:
        refuse_leaks(leaks, known=False)
    except InputError as error:
        remedy = f"split anew: skindualgen prepare SRC NEW; or reject one of each in skindualgen ui ({folder})"
        problems.append(Problem("leak", "stop", error.got, remedy, tuple(leak.test_id for leak in leaks)))
    sets = {name: _without_pictures(part) for name, part in parts.items()}
    for task in TASKS:
        try:
            data, left_out = task_data(task, Recipe(options.network, options.budget(task), 1, False), **sets)
        except InputError as error:
            refused[task] = error
            continue
        notes += [f"benchmark --task {task}: {line}" for line in left_out]
        notes += [f"benchmark --task {task}: no {name}, as {why}" for name, why in metrics_of(data)[1].items()]
    others = [task for task in TASKS if task not in refused]
    for task, reason in refused.items():
        remedy = f"skindualgen benchmark --task {others[0]}" if others else reason.remedy
        found = f"benchmark --task {task} cannot run: {reason.got}; expected {reason.expected}"
        problems.append(Problem(f"cannot_{task}", "fix" if others else "stop", found, remedy))
    return problems, notes


def _without_pictures(part: Dataset) -> PictureSet:
    """A part as the benchmark takes it, with a blank pixel for each picture: whether it can run hangs on records."""
    return PictureSet(part, np.zeros((len(part), 1, 1, 3), np.uint8), np.zeros((len(part), 1, 1), bool))
