"""Scores of trained networks on a test part, each computed for many weightings of its items at once.

A bootstrap resample is a vector of item counts, so a metric takes weights [r, n] and returns r scores in a few array
operations. Weights of one give the ordinary score; integer weights equal repeated items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.metrics.outcomes import JACCARD_THRESHOLD, ClassificationOutcome, Floats, Outcome, SegmentationOutcome

MELANOMA = "melanoma"

FIXED_SPECIFICITY = 0.8
"""The lowest of the specificities (0.80, 0.85, 0.90, 0.95) at which Pham et al., Scientific Reports 2021
(doi 10.1038/s41598-021-96707-8), tabulate the sensitivity for melanoma. A few hundred test items bear no higher one:
at 0.95 the threshold would hang on ten of 190 benign lesions."""

CALIBRATION_BINS = 15
"""Equal-width bins of confidence, as in the tables of Guo et al., ICML 2017."""


@dataclass(frozen=True)
class Metric:
    """A score with what a report says of it.

    Attributes:
        name: key in the tables of this module.
        title: for headings.
        definition: one or two sentences for a reader.
        score: takes an outcome and item weights [r, n] of 0 or more, and returns [r]; NaN where it is undefined: the
            test part has no item of a class that the metric needs, or this weighting gives such a class no weight.
            Raises TypeError for an outcome of the other task.
        higher_is_better: False for distances and errors.
        unit: "" for a share in [0, 1].
    """

    name: str
    title: str
    definition: str
    score: Callable[[Outcome, Floats], Floats]
    higher_is_better: bool = True
    unit: str = ""


def value(metric: Metric, outcome: Outcome) -> float:
    """Return the plain score of an outcome, every item weighing one; NaN where it is undefined."""
    return float(metric.score(outcome, np.ones((1, len(outcome))))[0])


def undefined_metrics(outcome: ClassificationOutcome) -> dict[str, str]:
    """Return the classification metrics that are NaN for a test part, each with the reason in words."""
    present = {outcome.classes[index] for index in _present(outcome)}
    reasons = {}
    if len(present) == 1:
        only = f"every test item has the diagnosis {next(iter(present))}"
        reasons = {"macro_auroc": only, "melanoma_sensitivity": only}
    if MELANOMA not in present:
        reasons["melanoma_sensitivity"] = f"no test item has the diagnosis {MELANOMA}"
    return reasons


def _mean_of(column: str, outcome: Outcome, weights: Floats) -> Floats:
    if not isinstance(outcome, SegmentationOutcome):
        raise TypeError(f"a segmentation score of a {type(outcome).__name__}")
    return np.asarray(weights @ getattr(outcome, column) / weights.sum(1))


def _of_classes(score: Callable[[ClassificationOutcome, Floats], Floats], outcome: Outcome, weights: Floats) -> Floats:
    if not isinstance(outcome, ClassificationOutcome):
        raise TypeError(f"a classification score of a {type(outcome).__name__}")
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN on purpose
        return score(outcome, weights)


def _present(outcome: ClassificationOutcome) -> NDArray[np.int64]:
    """Classes with a test item: a class without one has no recall, and is left out of every mean over classes."""
    return np.unique(outcome.truth)


def _accuracy(outcome: ClassificationOutcome, weights: Floats) -> Floats:
    return np.asarray(weights @ (outcome.probabilities.argmax(1) == outcome.truth) / weights.sum(1))


def _balanced_accuracy(outcome: ClassificationOutcome, weights: Floats) -> Floats:
    of_class = outcome.truth[:, None] == _present(outcome)  # [n, k]
    hit = of_class & (outcome.probabilities.argmax(1) == outcome.truth)[:, None]
    return np.asarray(((weights @ hit) / (weights @ of_class)).mean(1))


def _macro_f1(outcome: ClassificationOutcome, weights: Floats) -> Floats:
    classes = _present(outcome)
    of_class = outcome.truth[:, None] == classes  # [n, k]
    named = outcome.probabilities.argmax(1)[:, None] == classes
    support = weights @ of_class
    scores = 2 * (weights @ (of_class & named)) / (support + weights @ named)
    return np.asarray(np.where(support > 0, scores, np.nan).mean(1))


def _ranked(outcome: ClassificationOutcome, index: int, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the items of one class and of the others at each probability of it, from the highest down; both [t, r].

    Tied items share a row, so that a threshold always calls them together.
    """
    scores = outcome.probabilities[:, index]
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ordered = weights.T[order]  # [n, r]
    positive = ordered * (outcome.truth[order] == index).astype(np.float64)[:, None]
    if len(starts) < len(order):  # summing rows one by one would cost as much as all the rest
        positive, ordered = np.add.reduceat(positive, starts), np.add.reduceat(ordered, starts)
    return positive, ordered - positive


def _auroc(outcome: ClassificationOutcome, index: int, weights: Floats) -> Floats:
    positive, negative = _ranked(outcome, index, weights)
    found = np.cumsum(positive, axis=0)
    ordered_pairs = np.einsum("tr,tr->r", negative, found) - np.einsum("tr,tr->r", negative, positive) / 2  # ties: 1/2
    return np.asarray(ordered_pairs / (found[-1] * negative.sum(0)))


def _auprc(outcome: ClassificationOutcome, index: int, weights: Floats) -> Floats:
    positive, negative = _ranked(outcome, index, weights)
    found = np.cumsum(positive, axis=0)
    called = found + np.cumsum(negative, axis=0)
    precision = found / np.where(called > 0, called, 1)
    return np.asarray(np.einsum("tr,tr->r", positive, precision) / found[-1])


def _macro(
    of_class: Callable[[ClassificationOutcome, int, Floats], Floats], outcome: ClassificationOutcome, weights: Floats
) -> Floats:
    return np.mean([of_class(outcome, int(index), weights) for index in _present(outcome)], axis=0)


def _melanoma_sensitivity(outcome: ClassificationOutcome, weights: Floats) -> Floats:
    if MELANOMA not in outcome.classes:
        return np.full(len(weights), np.nan)
    positive, negative = _ranked(outcome, outcome.classes.index(MELANOMA), weights)
    found, false_alarms = np.cumsum(positive, axis=0), np.cumsum(negative, axis=0)
    others = false_alarms[-1]
    room = (1 - FIXED_SPECIFICITY) * others * (1 + 1e-9)  # 20 of 100 is allowed, however 1 - 0.8 is rounded
    allowed = np.where(false_alarms <= room, found, 0).max(0)
    return np.asarray(np.where(others > 0, allowed / found[-1], np.nan))


def _calibration_error(outcome: ClassificationOutcome, weights: Floats) -> Floats:
    confidence = outcome.probabilities.max(1)
    bins = np.ceil(confidence * CALIBRATION_BINS).clip(1, CALIBRATION_BINS) - 1  # (0, 1/15] is the first
    in_bin = bins[:, None] == np.arange(CALIBRATION_BINS)  # [n, bins]
    gap = (outcome.probabilities.argmax(1) == outcome.truth) - confidence
    return np.asarray(np.abs(weights @ (in_bin * gap[:, None])).sum(1) / weights.sum(1))


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def _of_masks(name: str, title: str, definition: str, **more: Any) -> Metric:
    return Metric(name, title, definition, partial(_mean_of, name), **more)


def _of_diagnoses(
    name: str, title: str, score: Callable[[ClassificationOutcome, Floats], Floats], definition: str, **more: Any
) -> Metric:
    return Metric(name, title, definition, partial(_of_classes, score), **more)


SEGMENTATION_METRICS = _table(
    _of_masks("dice", "Dice", "2 |A and B| / (|A| + |B|), mean over the test items."),
    _of_masks("iou", "IoU", "|A and B| / |A or B|, mean over the test items."),
    _of_masks(
        "hd95_px",
        "HD95",
        "95th percentile of the distances between the two borders in the worse direction, mean over the test items; "
        "the diagonal of the picture where one of the masks is empty.",
        higher_is_better=False,
        unit="px",
    ),
    _of_masks(
        "thresholded_jaccard",
        "Thresholded Jaccard",
        f"IoU, counted as 0 where it is below {JACCARD_THRESHOLD}, mean over the test items (ISIC 2018, task 1).",
    ),
)

CLASSIFICATION_METRICS = _table(
    _of_diagnoses(
        "balanced_accuracy",
        "Balanced accuracy",
        _balanced_accuracy,
        "Share of right diagnoses within each true class, mean over the classes (ISIC 2018, task 3).",
    ),
    _of_diagnoses("accuracy", "Accuracy", _accuracy, "Share of the test items with the right diagnosis."),
    _of_diagnoses(
        "macro_f1",
        "Macro F1",
        _macro_f1,
        "Harmonic mean of precision and recall of each class, mean over the classes of the test part.",
    ),
    _of_diagnoses(
        "macro_auroc",
        "Macro AUROC",
        partial(_macro, _auroc),
        "Area under the ROC curve of each class against the rest, mean over the classes; 0.5 is chance.",
    ),
    _of_diagnoses(
        "macro_auprc",
        "Macro AUPRC",
        partial(_macro, _auprc),
        "Average precision of each class against the rest, mean over the classes; chance is the share of the class.",
    ),
    _of_diagnoses(
        "melanoma_sensitivity",
        f"Melanoma sensitivity at {FIXED_SPECIFICITY:.0%} specificity",
        _melanoma_sensitivity,
        "Largest share of the melanomas that a threshold finds while calling at most "
        f"{1 - FIXED_SPECIFICITY:.0%} of the other lesions melanoma.",
    ),
    _of_diagnoses(
        "ece",
        "Calibration error (ECE)",
        _calibration_error,
        f"Gap between confidence and accuracy in {CALIBRATION_BINS} equal-width bins of confidence, mean weighted by "
        "the items of a bin (Guo et al., ICML 2017).",
        higher_is_better=False,
    ),
)
