"""Which trainings a benchmark consists of: parts of the real train split, arms, seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skindualgen.benchmarking.arms import Arm, Task, arms_of, arms_on_request
from skindualgen.benchmarking.learning import check_arm
from skindualgen.benchmarking.options import BenchmarkOptions
from skindualgen.benchmarking.pools import Trial, build_trial, merge_repeats, weighed
from skindualgen.benchmarking.results import LeftOut, Regime
from skindualgen.benchmarking.subsets import PARTS, by_class, nested_subset, part_of
from skindualgen.benchmarking.trials import Recipe, TaskData
from skindualgen.contracts import InputError
from skindualgen.judges.pictures import PictureSet

UNEVEN = 0.25
"""Difference in the share of generated pairs between two classes from which it is pointed out."""

Plan = list[tuple[Regime, list[Trial]]]
"""The trials of each amount of real pairs, in the order of arms and seeds."""


def task_data(
    task: Task,
    recipe: Recipe,
    *,
    train: PictureSet,
    generated: PictureSet,
    test: PictureSet,
    val: PictureSet | None = None,
) -> tuple[TaskData, list[str]]:
    """Return the pictures that a task can use, and what was left out in words.

    Segmentation needs masks. Classification needs diagnoses, and its classes are those of the real train part. ``val``
    is what arms choose on.

    Raises:
        InputError: nothing to train or test on, or fewer than two diagnoses.
    """
    given = {"train": train, "generated": generated, "test": test} | ({} if val is None else {"val": val})
    classes = [] if task == "segment" else sorted({name for name in train.diagnoses if name is not None})
    if task == "segment":
        need, usable = "a mask", {name: part.has_mask for name, part in given.items()}
    elif len(classes) < 2:
        raise InputError(f"diagnoses {classes} in the train part", "two or more", "benchmark --task segment")
    else:
        need = f"one of the diagnoses {', '.join(classes)}"
        usable = {name: np.isin([str(d) for d in part.diagnoses], classes) for name, part in given.items()}
    parts = {name: part.take(usable[name]) for name, part in given.items()}
    for name in ("train", "test"):
        if not len(parts[name]):
            raise InputError(f"no {name} item with {need}", "one or more", "add masks or diagnoses to the real data")
    left_out = [
        f"{len(part) - len(parts[name])} of {len(part)} {name} items are without {need}, and left out."
        for name, part in given.items()
        if len(parts[name]) < len(part)
    ]
    return TaskData(task, **parts, classes=classes, recipe=recipe), left_out


def plan(options: BenchmarkOptions, data: TaskData) -> Plan:
    """Return the trainings of a task, for each amount of real pairs.

    Raises:
        InputError: an unknown arm, a part that cannot be cut, or an arm that was asked for by name and cannot be built.
    """
    arms = _chosen_arms(options, data.task)
    counts = options.real_counts or [round(share * len(data.train)) for share in options.real_fractions or (1.0,)]
    if options.real_per_class:
        counts = [number * len(by_class(data.train.diagnoses)) for number in options.real_per_class]
    return [_regime(options, data, arms, count) for count in sorted(set(counts))]


def real_parts(train: PictureSet, count: int, seeds: int, *, evenly: bool = False) -> list[NDArray[np.int64]]:
    """Positions of the real pairs [count] that the trainings of each seed share: the parts of a regime.

    Args:
        train: the real training pairs that a task can use.
        count, evenly: see `nested_subset`.
        seeds: number of the parts.

    Raises:
        InputError: of `nested_subset`.
    """
    return [
        nested_subset(train.diagnoses, train.ids, count=count, seed=seed, groups=train.groups, evenly=evenly)
        for seed in range(seeds)
    ]


def _chosen_arms(options: BenchmarkOptions, task: Task) -> list[Arm]:
    given = options.ratios, options.class_allocation, options.replacements
    arms = arms_of(task, *given)
    if options.arms is None:
        return arms
    arms += arms_on_request(task, *given)
    known = {arm.name for each in options.tasks for arm in (*arms_of(each, *given), *arms_on_request(each, *given))}
    unknown = sorted(set(options.arms) - known)
    if unknown:
        raise InputError(f"arms {', '.join(unknown)}", f"some of {', '.join(sorted(known))}", "change --arms")
    chosen = [arm for arm in arms if arm.name in options.arms]
    if not chosen:
        got = f"none of the arms {', '.join(arm.name for arm in arms)} for the task {task}"
        raise InputError(got, "one or more", "add one to --arms, or leave the task out")
    return chosen


def _regime(options: BenchmarkOptions, data: TaskData, arms: Sequence[Arm], count: int) -> tuple[Regime, list[Trial]]:
    train = data.train
    parts = real_parts(train, count, options.seeds, evenly=bool(options.real_per_class))
    seeds = [part + repeat * PARTS for part in range(options.seeds) for repeat in range(options.repeats)]
    left_out, trials = [], []
    for arm in arms:
        try:
            trials += [_trial(options, data, arm, seed, parts[part_of(seed)]) for seed in seeds]
        except InputError as error:
            if options.arms is not None:
                raise InputError(f"arm {arm.name} with {error.got}", error.expected, error.remedy) from error
            reason = f"got {error.got}; expected {error.expected}"
            left_out.append(LeftOut(name=arm.name, title=arm.title, reason=reason))
    diagnoses = Counter(train.diagnoses[position] or "unknown" for position in parts[0])
    sizes = dict(sorted(diagnoses.items()))
    return Regime(real_pairs=count, whole=count == len(train), diagnoses=sizes, left_out=left_out), trials


def _trial(options: BenchmarkOptions, data: TaskData, arm: Arm, seed: int, part: np.ndarray) -> Trial:
    usable = _usable_generated(data, part, part_of(seed))
    places = {data.train.ids[position]: place for place, position in enumerate(part)}
    anchors = _anchors(data)
    trial = build_trial(
        data.task,
        arm,
        real_diagnoses=[data.train.diagnoses[position] for position in part],
        synthetic_diagnoses=[data.generated.diagnoses[position] for position in usable],
        seed=seed,
        made_from=[places.get(anchors[position] or "") for position in usable],
    )
    check_arm(data, trial)
    trial = replace(trial, real=part[trial.real], synthetic=usable[trial.synthetic])
    if options.pair_weights:
        of_pairs = [data.train.weights[trial.real], data.generated.weights[trial.synthetic]]
        trial = weighed(trial, np.concatenate(of_pairs))
    return merge_repeats(trial)


def _usable_generated(data: TaskData, part: np.ndarray, number: int) -> NDArray[np.int64]:
    """Positions of the generated pairs that a part of the real ones may be trained with.

    Those made from a real pair that the part lacks are left out, and those whose record's ``draw`` names another part:
    what an adapter trained on that one has drawn.
    """
    lacking = set(data.train.ids) - {data.train.ids[position] for position in part}
    draws = [getattr(record, "draw", None) for record in data.generated.data]
    return np.flatnonzero(
        [a not in lacking and draw in (None, number) for a, draw in zip(_anchors(data), draws, strict=True)]
    )


def _anchors(data: TaskData) -> list[str | None]:
    """The id of the real pair that each generated one was made from."""
    return [getattr(record, "anchor_isic_id", None) for record in data.generated.data]


def origin_caveats(data: TaskData, plans: Plan) -> list[str]:
    """Return, in a sentence or none, in which hybrid arm it tells most of the diagnosis whether a picture is generated.

    Source: docs/results/downstream_classify.md and downstream_classify_even.md, the same pairs in both.
    """
    if data.task != "classify":
        return []
    found = []
    for _, trials in plans:
        for trial in trials:
            if trial.arm.combines and not trial.arm.pretrain and trial.seed == 0:
                shares = _generated_shares(data, trial)
                low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
                found.append((shares[high] - shares[low], trial.arm.name, low, shares[low], high, shares[high]))
    if not found or max(found)[0] <= UNEVEN:
        return []
    _, name, low, least, high, most = max(found)
    return [
        f"In {name} {least:.0%} of what is drawn of {low} is generated, and {most:.0%} of {high}: looking generated "
        "hints at the diagnosis, and a network may learn that. --class-allocation even draws the same share of each "
        "class."
    ]


def _generated_shares(data: TaskData, trial: Trial) -> dict[str, float]:
    """Class -> share of generated pairs among its draws."""
    real = [str(data.train.diagnoses[position]) for position in trial.real]
    made = [str(data.generated.diagnoses[position]) for position in trial.synthetic]
    drawn, generated = Counter[str](), Counter[str]()
    for index, (name, weight) in enumerate(zip(real + made, trial.weights.tolist(), strict=True)):
        drawn[name] += weight
        generated[name] += weight * (index >= len(real))
    return {name: generated[name] / drawn[name] for name in drawn}
