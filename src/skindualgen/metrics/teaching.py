"""What generated photographs teach: a plain classifier trained on them, tested on unseen real photographs.

"Train on generated, test on real" is the classification accuracy score of Ravuri & Vinyals 2019 (arXiv 1905.10887),
here with a logistic regression on frozen features, which takes seconds. Fidelity, diagnosis and variety all enter it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from skindualgen.contracts import InputError
from skindualgen.metrics.intervals import Estimate, bootstrap, mean_of_means

INVERSE_PENALTY = 0.01
"""scikit-learn's C; the best of 1e-4 to 1 for real photographs on real ones (docs/lab-notebook.md, 2026-11-30)"""
MOST_ITERATIONS = 2000
REPEATS = 5
"""draws of the training photographs, over which hits are averaged"""
LEAST_PER_CLASS = 10

Features = NDArray[np.float32]
Labels = Sequence[str | None]


@dataclass(frozen=True)
class Teaching:
    """What a set taught, next to what as many real photographs teach.

    Attributes:
        generated, real: balanced accuracy on held-out real photographs, trained on the one and on the other.
        classes: diagnoses told apart.
        per_class: training photographs of each diagnosis, of either set.
        n_test: held-out photographs.
    """

    generated: Estimate
    real: Estimate
    classes: list[str]
    per_class: int
    n_test: int

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def gain(self) -> float:
        """What real photographs teach over guessing."""
        return self.real.value - self.chance

    @property
    def share(self) -> Estimate:
        """What generated photographs teach over guessing, as a share of the gain; NaN if that is not above 0.

        The interval takes the real accuracy as given.
        """
        if self.gain <= 0:
            return Estimate(float("nan"))
        return (self.generated - self.chance) / self.gain


def teaching(
    *,
    generated: tuple[Features, Labels],
    train: tuple[Features, Labels],
    held_out: tuple[Features, Labels],
    seed: int = 0,
) -> Teaching:
    """Train on generated and on real photographs, class-balanced and equally many, and test both on unseen real ones.

    Args:
        generated, train, held_out: features [n, d] and the diagnosis of each, None where it is not known. Diagnoses
            that one of the three lacks are left out.
        seed: of the draws of training photographs.

    Raises:
        InputError: fewer than two diagnoses with `LEAST_PER_CLASS` photographs to learn from and two to test on.
    """
    sets = {"generated": generated, "train": train, "held_out": held_out}
    least = {"generated": LEAST_PER_CLASS, "train": LEAST_PER_CLASS, "held_out": 2}
    counts = {name: {c: list(labels).count(c) for c in set(labels)} for name, (_, labels) in sets.items()}
    classes = sorted(
        name
        for name in {label for label in generated[1] if label is not None}
        if all(counts[part].get(name, 0) >= least[part] for part in sets)
    )
    if len(classes) < 2:
        raise InputError(
            f"{len(classes)} diagnoses with {LEAST_PER_CLASS} generated, {LEAST_PER_CLASS} real train and 2 held-out "
            "photographs",
            "2 or more",
            "add photographs of the rarer diagnoses",
        )
    per_class = min(counts[part][name] for part in ("generated", "train") for name in classes)
    test, truth = _of_classes(held_out, classes)
    scores = {}
    for name in ("generated", "train"):
        features, labels = _of_classes(sets[name], classes)
        hits = np.zeros(len(truth))
        for repeat in range(REPEATS):
            chosen = _balanced(labels, classes, per_class, seed=seed + repeat)
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_ITERATIONS)
            hits += model.fit(features[chosen], labels[chosen]).predict(test) == truth
        by_class = [hits[truth == label] / REPEATS for label in classes]
        scores[name] = bootstrap(by_class, mean_of_means, seed=seed)
    return Teaching(scores["generated"], scores["train"], classes, per_class, len(truth))


def _of_classes(part: tuple[Features, Labels], classes: list[str]) -> tuple[Features, NDArray[np.str_]]:
    known = np.array([label in classes for label in part[1]], bool)
    return part[0][known], np.array([label for label in part[1] if label in classes])


def _balanced(labels: NDArray[np.str_], classes: list[str], per_class: int, *, seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    members = (random.permutation(np.flatnonzero(labels == name))[:per_class] for name in classes)
    return np.concatenate(list(members))
