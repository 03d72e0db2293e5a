"""Scores of the benchmark: fractions by hand, scikit-learn, torchmetrics and the ISIC challenge's own scoring code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)
from torchmetrics.functional.classification import binary_sensitivity_at_specificity, multiclass_calibration_error

from skindualgen.contracts import InputError
from skindualgen.data.phantom import draw_phantom
from skindualgen.metrics.outcomes import ClassificationOutcome, SegmentationOutcome, segmentation_outcome
from skindualgen.metrics.scores import (
    CLASSIFICATION_METRICS,
    FIXED_SPECIFICITY,
    SEGMENTATION_METRICS,
    undefined_metrics,
    value,
)

CLASSES = ["melanoma", "nevus", "seborrheic keratosis"]
PER_CLASS = ["balanced_accuracy", "macro_f1", "macro_auroc", "macro_auprc"]


def outcome_of(truth: list[int], rows: list[list[float]], classes: list[str] = CLASSES) -> ClassificationOutcome:
    return ClassificationOutcome(classes, np.array(truth), np.array(rows))


def random_outcome(n: int = 80, seed: int = 0, *, ties: bool = True) -> ClassificationOutcome:
    """A mediocre classifier of imbalanced classes; with ``ties``, probabilities in steps of 1/8."""
    random = np.random.default_rng(seed)
    truth = np.r_[np.arange(3), random.choice(3, n - 3, p=[0.2, 0.7, 0.1])]
    logits = random.normal(size=(n, 3)) + np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if ties:
        probabilities = np.floor(probabilities * 8) / 8
        probabilities[:, 1] = 1 - probabilities[:, 0] - probabilities[:, 2]
    return ClassificationOutcome(CLASSES, truth, probabilities)


def by_sklearn(name: str, outcome: ClassificationOutcome, weights: NDArray[np.float64]) -> float:
    """The same score by scikit-learn, class by class where it has no weighted form of its own."""
    truth, probabilities = outcome.truth, outcome.probabilities
    predicted = probabilities.argmax(1)
    if name == "accuracy":
        return float(accuracy_score(truth, predicted, sample_weight=weights))
    if name == "balanced_accuracy":
        return float(balanced_accuracy_score(truth, predicted, sample_weight=weights))
    if name == "macro_f1":
        return float(f1_score(truth, predicted, average="macro", sample_weight=weights))
    if name == "macro_auroc":
        return float(roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", sample_weight=weights))
    one_hot = np.eye(len(outcome.classes))[truth]
    return float(average_precision_score(one_hot, probabilities, average="macro", sample_weight=weights))


# --- identities and fractions by hand ---


def test_perfect_predictions_have_the_best_value_of_every_metric() -> None:
    perfect = outcome_of([0, 1, 1, 2], np.eye(3)[[0, 1, 1, 2]].tolist())
    for metric in CLASSIFICATION_METRICS.values():
        assert value(metric, perfect) == (1 if metric.higher_is_better else 0), metric.name
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:6, 2:6] = True
    same = segmentation_outcome(predicted=mask, truth=mask)
    for metric in SEGMENTATION_METRICS.values():
        assert value(metric, same) == (1 if metric.higher_is_better else 0), metric.name


def test_the_tables_are_keyed_by_the_metrics_own_names() -> None:
    assert [metric.name for metric in SEGMENTATION_METRICS.values()] == list(SEGMENTATION_METRICS)
    assert [metric.name for metric in CLASSIFICATION_METRICS.values()] == list(CLASSIFICATION_METRICS)
    assert {name for name, m in SEGMENTATION_METRICS.items() if not m.higher_is_better} == {"hd95_px"}
    assert {name for name, m in CLASSIFICATION_METRICS.items() if not m.higher_is_better} == {"ece"}


def test_segmentation_scores_by_hand() -> None:
    truth, predicted = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    truth[:, 0] = True  # rows of four pixels
    predicted[0, 0, :3] = True  # 3 of 4: IoU 3/4, Dice 6/7
    predicted[1, 0, :2] = True  # 2 of 4: IoU 1/2, Dice 2/3, below the challenge's threshold
    outcome = segmentation_outcome(predicted=predicted, truth=truth)
    assert value(SEGMENTATION_METRICS["iou"], outcome) == pytest.approx(5 / 8)
    assert value(SEGMENTATION_METRICS["dice"], outcome) == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert value(SEGMENTATION_METRICS["thresholded_jaccard"], outcome) == pytest.approx(3 / 8)
    assert outcome.hd95_px == pytest.approx([0.85, 1.85])  # np.percentile of 0 0 0 1 and of 0 0 1 2


def test_an_iou_of_exactly_the_threshold_counts() -> None:
    truth, predicted = np.ones((1, 4, 5), bool), np.zeros((1, 4, 5), bool)
    predicted[0].flat[:13] = True  # 13 of 20 is 0.65
    outcome = segmentation_outcome(predicted=predicted, truth=truth)
    assert value(SEGMENTATION_METRICS["thresholded_jaccard"], outcome) == 0.65


def test_accuracies_and_f1_by_hand() -> None:
    # one melanoma found; nevi: three of four; keratosis missed and called nevus
    rows = [[0.8, 0.1, 0.1], *[[0.1, 0.8, 0.1]] * 3, [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]
    outcome = outcome_of([0, 1, 1, 1, 1, 2], rows)
    assert value(CLASSIFICATION_METRICS["accuracy"], outcome) == pytest.approx(4 / 6)
    assert value(CLASSIFICATION_METRICS["balanced_accuracy"], outcome) == pytest.approx((1 + 3 / 4 + 0) / 3)
    # melanoma: precision 1/2, recall 1; nevus: precision 3/4, recall 3/4; keratosis: none
    assert value(CLASSIFICATION_METRICS["macro_f1"], outcome) == pytest.approx((2 / 3 + 3 / 4 + 0) / 3)


def test_a_tie_between_a_positive_and_a_negative_counts_one_half_in_auroc() -> None:
    outcome = outcome_of([0, 0, 1, 1], [[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.1, 0.9]], ["melanoma", "nevus"])
    assert value(CLASSIFICATION_METRICS["macro_auroc"], outcome) == pytest.approx(3.5 / 4)


def test_constant_probabilities_are_chance() -> None:
    outcome = outcome_of([0, 1, 1, 1], [[0.25, 0.75]] * 4, ["melanoma", "nevus"])
    assert value(CLASSIFICATION_METRICS["macro_auroc"], outcome) == 0.5
    assert value(CLASSIFICATION_METRICS["macro_auprc"], outcome) == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert value(CLASSIFICATION_METRICS["melanoma_sensitivity"], outcome) == 0  # calling all would call all nevi too
    assert value(CLASSIFICATION_METRICS["ece"], outcome) == 0  # right in 3 of 4, and 0.75 sure


def test_melanoma_sensitivity_uses_up_the_allowed_false_alarms_and_no_more() -> None:
    # ten nevi at 0.05, 0.15, ..., 0.95: two false alarms are allowed, so the threshold lies above the third, 0.75
    nevi = [[p, 1 - p] for p in np.arange(10) / 10 + 0.05]
    melanomas = [[0.9, 0.1], [0.8, 0.2], [0.74, 0.26], [0.2, 0.8]]
    outcome = outcome_of([1] * 10 + [0] * 4, nevi + melanomas, ["melanoma", "nevus"])
    assert FIXED_SPECIFICITY == 0.8
    assert value(CLASSIFICATION_METRICS["melanoma_sensitivity"], outcome) == 2 / 4


def test_calibration_error_by_hand() -> None:
    # sure 0.9 and right in one of two: gap 0.4 on half of the items; sure 0.6 and right: gap 0.4 on the other half, but
    # of the other sign: bins must not cancel
    rows = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]
    outcome = outcome_of([0, 1, 0, 0], rows, ["melanoma", "nevus"])
    assert value(CLASSIFICATION_METRICS["ece"], outcome) == pytest.approx(0.4)


# --- independent implementations ---


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("name", [*PER_CLASS, "accuracy"])
def test_scores_equal_scikit_learn_for_every_weighting(name: str, ties: bool) -> None:
    outcome = random_outcome(ties=ties)
    random = np.random.default_rng(1)
    weights = np.concatenate([np.ones((1, 80)), random.integers(0, 4, (4, 80)), random.random((4, 80))])
    weights[:, :3] += 1  # one item of each class weighs something
    scores = CLASSIFICATION_METRICS[name].score(outcome, weights)
    expected = [by_sklearn(name, outcome, row) for row in weights]
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    assert np.ptp(expected) > 0.01  # the weights mattered


@pytest.mark.parametrize("seed", range(4))
def test_sensitivity_at_fixed_specificity_equals_torchmetrics(seed: int) -> None:
    outcome = random_outcome(seed=seed, n=105)
    scores = torch.from_numpy(outcome.probabilities[:, 0])
    target = torch.from_numpy((outcome.truth == 0).astype(np.int64))
    expected, _ = binary_sensitivity_at_specificity(scores, target, FIXED_SPECIFICITY)
    assert 0 < expected < 1
    assert value(CLASSIFICATION_METRICS["melanoma_sensitivity"], outcome) == pytest.approx(float(expected), abs=1e-6)


def test_calibration_error_equals_torchmetrics() -> None:
    outcome = random_outcome(n=400, ties=False)
    expected = multiclass_calibration_error(
        torch.from_numpy(outcome.probabilities), torch.from_numpy(outcome.truth), 3, n_bins=15, norm="l1"
    )
    assert expected > 0.01
    assert value(CLASSIFICATION_METRICS["ece"], outcome) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.filterwarnings("ignore:The inplace keyword in Series.rename")  # pandas, of the challenge's code
def test_overlaps_equal_the_isic_challenge_scoring_on_png_files(tmp_path: Path) -> None:
    """The challenge's own code reads the files and averages; a mask on each side of 0.65 must be among them."""
    # A dependency of it needs a C compiler, so `make test` installs it only where that works.
    scoring = pytest.importorskip("isic_challenge_scoring.segmentation", reason="isic-challenge-scoring not installed")
    truth = np.stack([draw_phantom(seed, size=64).mask > 0 for seed in range(8)])
    predicted = np.stack([ndimage.shift(mask.astype(int), index, order=0) > 0 for index, mask in enumerate(truth)])
    predicted[7] = False
    for folder, masks in (("truth", truth), ("predicted", predicted)):
        (tmp_path / folder).mkdir()
        for index, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / folder / f"ISIC_{index:07d}.png")
    expected = scoring.SegmentationScore.from_dir(tmp_path / "truth", tmp_path / "predicted").macro_average
    outcome = segmentation_outcome(predicted=predicted, truth=truth)
    found = {name: value(SEGMENTATION_METRICS[name], outcome) for name in ("dice", "iou", "thresholded_jaccard")}
    assert outcome.iou[1:7].max() > 0.65 > outcome.iou[1:7].min() > 0
    assert found["dice"] == pytest.approx(expected.at["dice"], abs=1e-12)
    assert found["iou"] == pytest.approx(expected.at["jaccard"], abs=1e-12)
    assert found["thresholded_jaccard"] == pytest.approx(expected.at["threshold_jaccard"], abs=1e-12)


# --- weights ---


@pytest.mark.parametrize("name", list(CLASSIFICATION_METRICS))
def test_integer_weights_equal_repeated_items(name: str) -> None:
    metric, outcome = CLASSIFICATION_METRICS[name], random_outcome()
    counts = np.random.default_rng(2).integers(0, 3, (5, 80))
    counts[:, :3] = 1
    repeated = [
        ClassificationOutcome(CLASSES, np.repeat(outcome.truth, c), np.repeat(outcome.probabilities, c, axis=0))
        for c in counts
    ]
    np.testing.assert_allclose(
        metric.score(outcome, counts.astype(float)), [value(metric, again) for again in repeated], atol=1e-12
    )


@pytest.mark.parametrize("name", list(SEGMENTATION_METRICS))
def test_integer_weights_equal_repeated_masks(name: str) -> None:
    random = np.random.default_rng(3)
    columns = random.random((4, 20))
    counts = random.integers(0, 3, 20)
    metric = SEGMENTATION_METRICS[name]
    weighted = metric.score(SegmentationOutcome(*columns), counts[None].astype(float))[0]
    assert weighted == pytest.approx(value(metric, SegmentationOutcome(*np.repeat(columns, counts, axis=1))))


@pytest.mark.parametrize("name", list(CLASSIFICATION_METRICS))
def test_scores_do_not_depend_on_the_order_of_items_or_the_layout_of_weights(name: str) -> None:
    metric, outcome = CLASSIFICATION_METRICS[name], random_outcome()
    weights = np.random.default_rng(4).integers(1, 4, (6, 80)).astype(float)
    order = np.random.default_rng(5).permutation(80)
    turned = ClassificationOutcome(CLASSES, outcome.truth[order], outcome.probabilities[order])
    scores = metric.score(outcome, weights)
    np.testing.assert_allclose(metric.score(turned, weights[:, order]), scores, atol=1e-12)
    np.testing.assert_allclose(metric.score(outcome, np.asfortranarray(weights)), scores, atol=1e-12)


# --- what is undefined ---


def test_a_class_without_test_items_is_left_out_of_the_means() -> None:
    outcome = outcome_of([0, 0, 1, 1], [[0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    assert value(CLASSIFICATION_METRICS["balanced_accuracy"], outcome) == pytest.approx((1 / 2 + 1) / 2)
    # keratosis, called once and never true, takes from melanoma's recall and is no class of its own
    assert value(CLASSIFICATION_METRICS["macro_f1"], outcome) == pytest.approx((2 / 3 + 1) / 2)
    assert undefined_metrics(outcome) == {}


@pytest.mark.parametrize("name", PER_CLASS)
def test_a_weighting_without_a_class_is_undefined_rather_than_another_score(name: str) -> None:
    outcome = random_outcome()
    weights = np.ones((2, 80))
    weights[0, outcome.truth == 2] = 0
    scores = CLASSIFICATION_METRICS[name].score(outcome, weights)
    assert np.isnan(scores[0]) and np.isfinite(scores[1])


def test_without_melanoma_its_sensitivity_is_undefined_with_a_reason() -> None:
    metric = CLASSIFICATION_METRICS["melanoma_sensitivity"]
    absent = outcome_of([0, 1], [[0.5, 0.5], [0.5, 0.5]], ["nevus", "vascular lesion"])
    untested = outcome_of([1, 2], [[0.2, 0.5, 0.3]] * 2)
    for outcome in (absent, untested):
        assert np.isnan(value(metric, outcome))
        assert undefined_metrics(outcome) == {"melanoma_sensitivity": "no test item has the diagnosis melanoma"}


def test_one_class_alone_has_no_ranking() -> None:
    outcome = outcome_of([0, 0], [[0.7, 0.2, 0.1]] * 2)
    reasons = undefined_metrics(outcome)
    assert set(reasons) == {"macro_auroc", "melanoma_sensitivity"}
    assert "melanoma" in reasons["macro_auroc"]
    assert all(np.isnan(value(CLASSIFICATION_METRICS[name], outcome)) for name in reasons)


# --- refusals ---


def test_a_metric_refuses_the_other_task() -> None:
    masks = segmentation_outcome(predicted=np.ones((1, 2, 2), bool), truth=np.ones((1, 2, 2), bool))
    with pytest.raises(TypeError, match="SegmentationOutcome"):
        value(CLASSIFICATION_METRICS["accuracy"], masks)
    with pytest.raises(TypeError, match="ClassificationOutcome"):
        value(SEGMENTATION_METRICS["dice"], random_outcome())


@pytest.mark.parametrize(
    ("truth", "rows"),
    [
        ([0, 1], [[1.0, 0.0, 0.0]]),  # fewer rows than items
        ([0], [[1.0, 0.0]]),  # a column too few
        ([3], [[1.0, 0.0, 0.0]]),  # no such class
        ([-1], [[1.0, 0.0, 0.0]]),
        ([0], [[2.0, 1.0, 0.5]]),  # logits
        ([0], [[2.0, -1.0, 0.0]]),  # sums to 1, still no probabilities
        ([0], [[np.nan, 0.5, 0.5]]),
    ],
)
def test_classification_outcomes_are_checked(truth: list[int], rows: list[list[float]]) -> None:
    with pytest.raises(InputError):
        outcome_of(truth, rows)


def test_segmentation_outcomes_are_checked() -> None:
    good = np.ones(3)
    with pytest.raises(InputError, match="shapes"):
        SegmentationOutcome(good, good, good, np.ones(2))
    with pytest.raises(InputError, match="NaN"):
        SegmentationOutcome(good, good, np.array([1, np.nan, 1]), good)
    with pytest.raises(InputError, match="one shape"):
        segmentation_outcome(predicted=np.ones((2, 4, 4), bool), truth=np.ones((1, 4, 4), bool))
    with pytest.raises(InputError, match="every item"):
        segmentation_outcome(predicted=np.ones((0, 4, 4), bool), truth=np.ones((0, 4, 4), bool))
