"""One verdict on a data set folder: go, fix or stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.review import left_out_line
from skindualgen.model.local import count_tokens, native_px
from skindualgen.readiness.pictures import (
    file_problems,
    look_at,
    near_problems,
    shape_problems,
    size_problems,
    tone_notes,
)
from skindualgen.readiness.records import record_problems
from skindualgen.readiness.results import Purpose, Readiness, verdict_of


def check(
    folder: Path,
    purpose: Purpose = "train",
    *,
    base: str = "micro",
    hours: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Readiness:
    """Check a data set folder, which is only read. Pairs that a reviewer has rejected do not count.

    Args:
        folder: as `skindualgen prepare` writes it.
        purpose: "train" also looks at prompts and sizes, "benchmark" at what the benchmark itself refuses.
        base: that will be trained; named as ``train`` takes it.
        hours: also measure how long a training with ``train``'s defaults takes on this machine, unless the verdict is
            "stop" or it is checked for a benchmark.
        report: called with a stage, the number done and of all.

    Raises:
        InputError: no data set folder, or no such base.
    """
    data = Dataset.open(folder)
    native = native_px(base) if purpose == "train" else None
    pictures = look_at(data, partial(report, "reading pairs"))
    readable = Dataset(folder, pictures.readable)
    problems = record_problems(readable, purpose, partial(count_tokens, base)) + file_problems(pictures)
    near, notes = near_problems(readable)
    if purpose == "benchmark":
        problems += shape_problems(pictures)
        if verdict_of(problems) != "stop":  # or it would refuse for one of these reasons
            from skindualgen.readiness.benchmark import benchmark_problems  # torch, which nothing else here needs

            found, more = benchmark_problems(folder)
            problems, notes = problems + found, notes + more
    else:
        problems += near + (size_problems(pictures, native) if native else [])
        notes += [] if native else [f"the size of base {base} is not known, as it is not on this disk"]
    without = sum(record.diagnosis is None for record in readable)
    notes += [f"photographs without a diagnosis, which no prompt can state: {without}"] if without else []
    notes += tone_notes(readable, partial(report, "measuring skin"))
    notes += filter(None, [left_out_line({str(folder): data.rejected})])
    expected = None
    if hours and purpose == "train" and verdict_of(problems) != "stop":
        report("training a few steps", 0, 1)
        expected, line = _expected(folder, base)
        report("training a few steps", 1, 1)
        notes.append(line)
    problems.sort(key=lambda problem: problem.level != "stop")
    return Readiness(folder, purpose, data.counts, problems, notes, pictures.masks, expected)


def _expected(folder: Path, base: str) -> tuple[float | None, str]:
    """How many hours a training of the defaults takes here, and the note that says so, or why it is not known."""
    from skindualgen.training.estimate import expected_hours  # torch, which nothing else here needs

    config = TrainConfig(data=folder, out=folder / "run", base=base)
    try:
        hours = expected_hours(config)
    except InputError as error:
        return None, f"hours of a training are not known: {error}"
    taken = f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
    todo = f"{config.max_train_steps:,} steps of {config.train_batch_size} pairs"
    command = f"skindualgen train --data {folder} --base {base}"
    return hours, f"expected on this machine: {taken} for the {todo} that {command} takes, without its validations"
