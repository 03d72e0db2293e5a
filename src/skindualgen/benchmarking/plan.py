"""Which trainings a benchmark consists of: parts of the real train split, arms, seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skindualgen.benchmarking.arms import Arm, Task, arms_of
from skindualgen.benchmarking.options import FILLS, BenchmarkOptions
from skindualgen.benchmarking.pictures import Pictures
from skindualgen.benchmarking.pools import build_pool
from skindualgen.benchmarking.subsets import nested_subset
from skindualgen.benchmarking.trials import TaskData, Trial, merge_repeats
from skindualgen.contracts import InputError

UNEVEN = 0.25
"""difference in the share of generated pairs between two classes from which it is told"""


@dataclass(frozen=True)
class Regime:
    """All arms for one amount of real pairs.

    Attributes:
        real_pairs: number of real pairs, the same for all seeds; which ones, each seed draws anew.
        whole: whether they are the whole train part.
        diagnoses: how many of each, in the first seed's part.
        arms: those that can be built.
        left_out: the others, each with the reason.
        trials: by arm's name and seed.
    """

    real_pairs: int
    whole: bool
    diagnoses: dict[str, int]
    arms: list[Arm]
    left_out: list[tuple[Arm, str]]
    trials: dict[tuple[str, int], Trial]


def task_data(task: Task, *, train: Pictures, generated: Pictures, test: Pictures) -> tuple[TaskData, list[str]]:
    """Return the pictures that a task can use, and what was left out in words.

    Segmentation needs masks. Classification needs diagnoses, and its classes are those of the real train part.

    Raises:
        InputError: nothing to train or test on, or fewer than two diagnoses.
    """
    if task == "segment":
        kept = {"train": train, "generated": generated, "test": test}
        usable = {name: part.has_mask for name, part in kept.items()}
        classes, need = [], "a mask"
    else:
        classes = sorted({name for name in train.diagnoses if name is not None})
        kept = {"train": train, "generated": generated, "test": test}
        usable = {name: np.isin([str(d) for d in part.diagnoses], classes) for name, part in kept.items()}
        need = f"one of the diagnoses {', '.join(classes)}"
        if len(classes) < 2:
            raise InputError(f"diagnoses {classes} in the train part", "two or more", "benchmark --task segment")
    parts = {name: part.take(np.flatnonzero(usable[name])) for name, part in kept.items()}
    for name in ("train", "test"):
        if not len(parts[name]):
            raise InputError(f"no {name} item with {need}", "one or more", "add masks or diagnoses to the real data")
    left_out = [
        f"{len(part) - len(parts[name])} of {len(part)} {name} items are without {need}, and left out."
        for name, part in kept.items()
        if len(parts[name]) < len(part)
    ]
    return TaskData(task, **parts, classes=classes), left_out


def plan(options: BenchmarkOptions, data: TaskData) -> list[Regime]:
    """Return the trainings of a task, one regime for each amount of real pairs.

    Raises:
        InputError: an unknown arm, a part that cannot be cut, or an arm that was asked for by name and cannot be built.
    """
    arms = _chosen_arms(options, data.task)
    if options.real_counts:
        sizes: list[dict[str, int | float]] = [{"count": count} for count in sorted(set(options.real_counts))]
    else:
        sizes = [{"fraction": fraction} for fraction in sorted(set(options.real_fractions or (1.0,)))]
    return [_regime(options, data, arms, size) for size in sizes]


def _chosen_arms(options: BenchmarkOptions, task: Task) -> list[Arm]:
    arms = arms_of(task, options.ratios)
    if options.arms is None:
        return arms
    known = {arm.name for any_task in options.tasks for arm in arms_of(any_task, options.ratios)}
    unknown = sorted(set(options.arms) - known)
    if unknown:
        raise InputError(f"arms {', '.join(unknown)}", f"some of {', '.join(sorted(known))}", "change --arms")
    chosen = [arm for arm in arms if arm.name in options.arms]
    if not chosen:
        got = f"none of the arms {', '.join(arm.name for arm in arms)} for the task {task}"
        raise InputError(got, "one or more", "add one to --arms, or leave the task out")
    return chosen


def _regime(options: BenchmarkOptions, data: TaskData, arms: list[Arm], size: dict[str, int | float]) -> Regime:
    train = data.train
    parts = [
        nested_subset(train.diagnoses, train.ids, seed=seed, groups=train.groups, **size)  # type: ignore[arg-type]
        for seed in range(options.seeds)
    ]
    built, left_out = [], []
    trials: dict[tuple[str, int], Trial] = {}
    for arm in arms:
        try:
            pools = {(arm.name, seed): _trial(options, data, arm, seed, part) for seed, part in enumerate(parts)}
        except InputError as error:
            if options.arms is not None:
                raise InputError(f"arm {arm.name} with {error.got}", error.expected, error.remedy) from error
            left_out.append((arm, f"got {error.got}; expected {error.expected}"))
        else:
            built.append(arm)
            trials |= pools
    diagnoses = Counter(train.diagnoses[position] or "unknown" for position in parts[0])
    whole = len(parts[0]) == len(train)
    return Regime(len(parts[0]), whole, dict(sorted(diagnoses.items())), built, left_out, trials)


def origin_caveats(data: TaskData, regimes: Sequence[Regime]) -> list[str]:
    """Return, in a sentence or none, in which hybrid arm it tells most of the diagnosis whether a picture is generated.

    Source: docs/results/downstream_classify.md and downstream_classify_even.md, the same pairs in both.
    """
    if data.task != "classify":
        return []
    found = []
    for regime in regimes:
        for arm in regime.arms:
            if arm.name.startswith("hybrid-"):
                shares = _generated_shares(data, regime.trials[arm.name, 0])
                low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
                found.append((shares[high] - shares[low], arm.name, low, shares[low], high, shares[high]))
    if not found or max(found)[0] <= UNEVEN:
        return []
    _, name, low, least, high, most = max(found)
    return [
        f"In {name} {least:.0%} of what is drawn of {low} is generated, and {most:.0%} of {high}: looking generated "
        "hints at the diagnosis, and a network may learn that. --fill even draws the same share of each class."
    ]


def _generated_shares(data: TaskData, trial: Trial) -> dict[str, float]:
    """Class -> share of generated pairs among its draws."""
    real = [str(data.train.diagnoses[position]) for position in trial.pool.real]
    made = [str(data.generated.diagnoses[position]) for position in trial.pool.synthetic]
    drawn, generated = Counter[str](), Counter[str]()
    for index, (name, weight) in enumerate(zip(real + made, trial.pool.weights.tolist(), strict=True)):
        drawn[name] += weight
        generated[name] += weight * (index >= len(real))
    return {name: generated[name] / drawn[name] for name in drawn}


def _trial(options: BenchmarkOptions, data: TaskData, arm: Arm, seed: int, part: np.ndarray) -> Trial:
    pool = build_pool(
        arm,
        real_diagnoses=[data.train.diagnoses[position] for position in part],
        synthetic_diagnoses=data.generated.diagnoses,
        fill=options.fill or FILLS[data.task],
        seed=seed,
    )
    return Trial(arm.name, seed, merge_repeats(replace(pool, real=part[pool.real])))
