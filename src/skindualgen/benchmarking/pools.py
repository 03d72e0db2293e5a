"""What an arm trains on: which real and generated pairs, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skindualgen.benchmarking.arms import PRETRAIN_SHARE, Arm
from skindualgen.benchmarking.subsets import by_class, by_least, webster
from skindualgen.contracts import InputError

Fill = Literal["balance", "match", "even"]


@dataclass(frozen=True)
class Pool:
    """What one arm trains on; batches are drawn from it with replacement.

    Attributes:
        real: positions in the real training records; may repeat (replay).
        synthetic: positions in the generated records, each once.
        weights: [len(real) + len(synthetic)] chance of each item at a draw, sum 1.
        augment: whether classical augmentation is applied.
        loss_weights: diagnosis -> weight in the loss, mean 1 over the items; None weighs all alike.
        pretrain: share of the steps, the first ones, that draw generated pairs alone; the others then draw real ones
            alone. 0 mixes them in every batch.
    """

    real: NDArray[np.int64]
    synthetic: NDArray[np.int64]
    weights: NDArray[np.float64]
    augment: bool
    loss_weights: dict[str, float] | None
    pretrain: float = 0.0


def build_pool(
    arm: Arm,
    *,
    real_diagnoses: Sequence[str | None],
    synthetic_diagnoses: Sequence[str | None],
    fill: Fill,
    seed: int,
) -> Pool:
    """Choose what an arm trains on; for one seed the hybrid arms of rising ratio contain each other.

    Classes are the diagnoses of the real pairs, those without one together being a class of their own. Generated pairs
    of other diagnoses are not used. If no real pair has a diagnosis, those of the generated ones are passed over.

    Args:
        arm: one of `arms_of`.
        real_diagnoses: of the real training pairs.
        synthetic_diagnoses: of the generated pairs.
        fill: "match" takes generated pairs in the proportions of the real classes; "balance" gives each to the class
            that is rarest by then, so that the pool's classes become as equal as they can; "even" takes as many of each
            class and draws each class equally often, with the same share of generated pairs in each: to be generated
            says nothing about the diagnosis, as it does in a pool whose rare classes alone are filled up.
        seed: chooses among the generated pairs, and among the real ones that are replayed.

    Raises:
        InputError: no real pairs, too few generated ones of a class, or, where classes are weighted, a real pair
            without diagnosis.
    """
    if not real_diagnoses:
        raise InputError("no real pairs", "one or more", "check the training split")
    labelled = any(diagnosis is not None for diagnosis in real_diagnoses)
    real = by_class(real_diagnoses)
    synthetic = by_class(synthetic_diagnoses if labelled else [None] * len(synthetic_diagnoses))
    sizes = {name: len(members) for name, members in real.items()}
    positions, chosen = np.arange(len(real_diagnoses)), np.empty(0, np.int64)
    if arm.ratio is not None:
        only = arm.name == "synthetic"
        counts = _extra_counts(sizes, max(1, round(arm.ratio * len(real_diagnoses))), fill, from_nothing=only)
        if arm.uses_synthetic:
            chosen = _take(synthetic, counts, seed)
            positions = positions[:0] if only else positions
        elif fill != "even":
            positions = np.concatenate([positions, _replay(real, counts, seed)])
    weights = np.full(len(positions) + len(chosen), 1 / (len(positions) + len(chosen)))
    loss_weights = None
    evenly = arm.ratio is not None and fill == "even" and labelled
    if arm.name in ("reweight", "oversample") or evenly:
        inverse = _inverse_frequencies(sizes)
        if arm.name == "reweight":
            loss_weights = inverse
        elif arm.uses_synthetic:
            origins = [(str(real_diagnoses[position]), "real") for position in positions.tolist()]
            origins += [(str(synthetic_diagnoses[position]), "generated") for position in chosen.tolist()]
            weights = _even_weights(origins, arm.ratio)
        else:
            weights *= [inverse[str(diagnosis)] for diagnosis in real_diagnoses]
    pretrain = PRETRAIN_SHARE if arm.name == "pretrain" else 0.0
    return Pool(positions, chosen, weights / weights.sum(), arm.augment, loss_weights, pretrain)


def _extra_counts(sizes: Mapping[str, int], total: int, fill: Fill, *, from_nothing: bool) -> Counter[str]:
    """Share ``total`` extra pairs among the classes; ``from_nothing`` if they stand without the real ones."""
    if fill == "even" or (fill == "balance" and from_nothing):
        sizes = dict.fromkeys(sizes, 0)
    rank = webster if fill == "match" else _rarest
    return Counter(islice(by_least(sizes, rank, {}), total))


def _rarest(size: int, taken: int) -> float:
    """Rank of a class that is filled up: how many of it there are by then."""
    return size + taken


def _take(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Choose ``counts`` generated pairs of each class, the same first ones whatever the counts."""
    lacking = {name: count for name, count in counts.items() if count > len(members.get(name, ()))}
    if lacking:
        there = ", ".join(f"{len(members[name])} of {_name(name)}" for name in sorted(members)) or "none"
        needed = ", ".join(f"{count} of {_name(name)}" for name, count in sorted(lacking.items()))
        raise InputError(
            f"generated pairs: {there}",
            f"{needed}, as no pair is used twice",
            "generate more of these classes (or with these names of them), use smaller ratios, or another --fill",
        )
    chosen = [_shuffled(members[name], seed, name)[:count] for name, count in counts.items()]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def _replay(members: Mapping[str, Sequence[int]], counts: Mapping[str, int], seed: int) -> NDArray[np.int64]:
    """Repeat ``counts`` real pairs of each class, all of a class equally often but for the last round."""
    repeated = [np.resize(_shuffled(members[name], seed, name), count) for name, count in counts.items()]
    return np.sort(np.concatenate(repeated)) if repeated else np.empty(0, np.int64)


def _shuffled(positions: Sequence[int], seed: int, name: str) -> NDArray[np.int64]:
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
