"""What one training of an arm draws from: which real and generated pairs, and how often each."""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from skindualgen.benchmarking.arms import Arm, ClassAllocation, Task
from skindualgen.benchmarking.subsets import by_class, by_least, webster
from skindualgen.contracts import InputError

WEIGHT_DIGITS = 12
"""Digits to which a pool's weights are rounded: sums of repeats differ in the last bit from the plain weight."""

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """One training: the pairs of an arm for one seed, from which batches are drawn with replacement.

    Attributes:
        task, arm, seed: what is trained.
        real_pairs: number of real pairs that all arms of its regime have.
        real: positions in the real training records; may repeat.
        synthetic: positions in the generated records, each once.
        weights: [len(real) + len(synthetic)] chance of each item at a draw, sum 1.
        loss_weights: diagnosis -> weight in the loss, mean 1 over the items; None weighs all alike.
        steps: of the training; None takes the task's.
    """

    task: Task
    arm: Arm
    seed: int
    real_pairs: int
    real: Positions
    synthetic: Positions
    weights: NDArray[np.float64]
    loss_weights: dict[str, float] | None = None
    steps: int | None = None

    @property
    def notes(self) -> dict[str, str | int]:
        """What its record on disk says of it."""
        return {"task": self.task, "arm": self.arm.name, "seed": self.seed, "real_pairs": self.real_pairs}


def build_trial(
    task: Task,
    arm: Arm,
    *,
    real_diagnoses: Sequence[str | None],
    synthetic_diagnoses: Sequence[str | None],
    seed: int,
    made_from: Sequence[int | None] | None = None,
) -> Trial:
    """Choose what an arm trains on; for one seed the hybrid arms of rising ratio contain each other.

    Classes are the diagnoses of the real pairs, those without one together being a class of their own. Generated pairs
    of other diagnoses are not used. If no real pair has a diagnosis, those of the generated ones are passed over.

    Args:
        task: what is trained for.
        arm: one of `arms_of`.
        real_diagnoses: of the real training pairs.
        synthetic_diagnoses: of the generated pairs.
        seed: chooses among the generated pairs, and among the real ones that are repeated.
        made_from: of each generated pair, the position of the real one that it was made from, None if of none of them.

    Raises:
        InputError: no real pairs, too few generated ones of a class, or, where classes are weighted, a real pair
            without diagnosis.
    """
    if not real_diagnoses:
        raise InputError("no real pairs", "one or more", "check the training split")
    labelled = any(diagnosis is not None for diagnosis in real_diagnoses)
    members = by_class(real_diagnoses)
    sizes = {name: len(positions) for name, positions in members.items()}
    evenly = labelled and arm.class_allocation == "even"
    real = np.arange(len(real_diagnoses) if arm.uses_real else 0)
    synthetic = np.empty(0, np.int64)
    made = synthetic_diagnoses if labelled else [None] * len(synthetic_diagnoses)
    if arm.ratio is not None and arm.class_allocation is not None:
        total = max(1, round(arm.ratio * len(real_diagnoses)))
        counts = _added_counts(sizes, total, arm.class_allocation, from_nothing=not arm.uses_real)
        if arm.uses_synthetic:
            synthetic = _take(by_class(made), counts, seed)
        if arm.repeat_real and arm.class_allocation != "even":
            real = np.concatenate([real, _repeat(members, counts, seed)])
    if arm.replacement:
        chances = _replacing(real_diagnoses, made, made_from or [None] * len(made))
        synthetic = np.flatnonzero(chances)
        real = real[: 0 if arm.replacement == 1 else None]
        kept = np.full(len(real), (1 - arm.replacement) / max(1, len(real)))
        weights = np.concatenate([kept, arm.replacement * chances[synthetic]])
    else:
        weights = np.full(len(real) + len(synthetic), 1 / (len(real) + len(synthetic)))
    inverse = _inverse_frequencies(sizes) if evenly or arm.equal_classes else {}
    if evenly and arm.uses_synthetic:
        origins = [(str(real_diagnoses[position]), "real") for position in real.tolist()]
        origins += [(str(synthetic_diagnoses[position]), "generated") for position in synthetic.tolist()]
        weights = _even_weights(origins, arm.ratio)
    elif evenly or arm.equal_classes == "draws":
        weights *= [inverse[str(diagnosis)] for diagnosis in real_diagnoses]
    loss_weights = inverse if arm.equal_classes == "loss" else None
    return Trial(task, arm, seed, len(real_diagnoses), real, synthetic, weights / weights.sum(), loss_weights)


def weighed(trial: Trial, of_pairs: NDArray[np.float64]) -> Trial:
    """Return a trial with its items' chances times the weights of their pairs [n]; as it is where all weigh alike.

    What an arm says of the shares of classes and origins then holds before pairs are weighed, but for the chance of
    being replaced, which stays: weights then decide among real and among generated pairs.
    """
    if np.ptp(of_pairs) == 0:
        return trial
    product = trial.weights * of_pairs
    if trial.arm.replacement:
        for part in (slice(len(trial.real)), slice(len(trial.real), None)):
            product[part] *= trial.weights[part].sum() / (product[part].sum() or 1)
    return replace(trial, weights=product / product.sum())


def merge_repeats(trial: Trial) -> Trial:
    """Return a trial of the same batches, each item once and in ascending order, repeats added up in its weight.

    Pools that differ in the order or the number of copies alone become one, which then need be trained only once.
    """
    real, synthetic = np.split(trial.weights, [len(trial.real)])
    positions, weights = [], []
    for share, part in ((real, trial.real), (synthetic, trial.synthetic)):
        unique, inverse = np.unique(part, return_inverse=True)
        positions.append(unique)
        weights.append(np.bincount(inverse, share, minlength=len(unique)).astype(np.float64))
    merged = np.concatenate(weights).round(WEIGHT_DIGITS)
    return replace(trial, real=positions[0], synthetic=positions[1], weights=merged)


def _added_counts(
    sizes: Mapping[str, int], total: int, allocation: ClassAllocation, *, from_nothing: bool
) -> Counter[str]:
    """Share ``total`` pairs among the classes; ``from_nothing`` if the real ones are not there."""
    if allocation == "even" or (allocation == "balance" and from_nothing):
        sizes = dict.fromkeys(sizes, 0)
    # Of a class that is filled up the rank is its size by then.
    rank: Callable[[int, int], float] = webster if allocation == "match" else operator.add
    return Counter(islice(by_least(sizes, rank, {}), total))


def _replacing(
    real: Sequence[str | None], made: Sequence[str | None], made_from: Sequence[int | None]
) -> NDArray[np.float64]:
    """Return the chance of each generated pair to be the one that replaces a real one, sum 1.

    All real pairs are replaced equally often, each by one of its own diagnosis: one made from it, or else any.
    """
    of_class, of_pair = by_class(made), defaultdict[int, list[int]](list)
    for position, (diagnosis, origin) in enumerate(zip(made, made_from, strict=True)):
        if origin is not None and diagnosis == real[origin]:
            of_pair[origin].append(position)
    chances = np.zeros(len(made))
    for position, diagnosis in enumerate(real):
        candidates = of_pair.get(position) or of_class.get(diagnosis or "")
        if not candidates:
            raise InputError(
                f"no generated pairs of {_name(diagnosis or '')}",
                "one or more of each diagnosis of the real pairs",
                "generate some (or with this name of it)",
            )
        chances[candidates] += 1 / (len(real) * len(candidates))
    return chances


def _take(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> Positions:
    """Choose ``counts`` generated pairs of each class, the same first ones whatever the counts."""
    lacking = {name: count for name, count in counts.items() if count > len(members.get(name, ()))}
    if lacking:
        there = ", ".join(f"{len(members[name])} of {_name(name)}" for name in sorted(members)) or "none"
        needed = ", ".join(f"{count} of {_name(name)}" for name, count in sorted(lacking.items()))
        raise InputError(
            f"generated pairs: {there}",
            f"{needed}, as no pair is used twice",
            "generate more of these classes (or with these names of them), use smaller ratios, or another "
            "--class-allocation",
        )
    return np.sort(np.concatenate([_shuffled(members[name], seed, name)[:count] for name, count in counts.items()]))


def _repeat(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> Positions:
    """Repeat ``counts`` real pairs of each class, all of a class equally often but for the last round."""
    repeated = [np.resize(_shuffled(members[name], seed, name), count) for name, count in counts.items()]
    return np.sort(np.concatenate(repeated))


def _shuffled(positions: Sequence[int], seed: int, name: str) -> Positions:
    return np.random.default_rng([seed, *name.encode()]).permutation(np.asarray(positions, np.int64))


def _inverse_frequencies(sizes: Mapping[str, int]) -> dict[str, float]:
    """Return for each class the number of items over classes times its size: the mean over the items is 1."""
    if "" in sizes:
        raise InputError(
            f"{sizes['']} real pairs without diagnosis", "one for each", "leave these out to weigh classes"
        )
    total = sum(sizes.values())
    return {name: total / (len(sizes) * size) for name, size in sizes.items()}


def _even_weights(origins: Sequence[tuple[str, str]], ratio: float | None) -> NDArray[np.float64]:
    """Chance of each item (class, origin): classes alike, in each ``ratio`` generated draws for a real one."""
    counts, parts = Counter(origins), {"real": 1.0, "generated": ratio or 0.0}
    whole = {name: sum(parts[origin] for of, origin in counts if of == name) for name, _ in counts}
    return np.array([parts[item[1]] / whole[item[0]] / len(whole) / counts[item] for item in origins])


def _name(name: str) -> str:
    return name or "no diagnosis"
