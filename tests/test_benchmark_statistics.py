"""Intervals over seeds and test items: identities, textbook formulas, and coverage by simulation."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

import interval_coverage
from interval_coverage import METRICS, World, coverage, draw_arms, measure, table, true_difference

from skindualgen.benchmarking.statistics import (
    Difference,
    Outcomes,
    arm_estimate,
    best_of,
    compare,
    holm,
    resampled_scores,
)
from skindualgen.benchmarking.subsets import PARTS
from skindualgen.contracts import InputError
from skindualgen.metrics.outcomes import ClassificationOutcome, Outcome, SegmentationOutcome
from skindualgen.metrics.scores import Metric

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

DICE, HD95, BALANCED = METRICS["dice"], METRICS["hd95_px"], METRICS["balanced_accuracy"]


def arm(dice: NDArray[np.float64] | list[list[float]]) -> Outcomes:
    """An arm from Dice [s, n]; the distance is 10 (1 - Dice)."""
    outcomes: dict[int, Outcome] = {}
    for seed, row in enumerate(np.asarray(dice, np.float64)):
        outcomes[seed] = SegmentationOutcome(dice=row, iou=row, hd95_px=10 * (1 - row), thresholded_jaccard=row)
    return outcomes


def paired_difference(metric: Metric, first: Outcomes, second: Outcomes, **fields: Any) -> Difference:
    return compare(metric, {"first": first, "second": second}, "second", **fields)["first"]


def singles(count: int) -> list[str]:
    """Every item a lesion of its own."""
    return [str(number) for number in range(count)]


def two_arms(seeds: int = 5, items: int = 60, metric: str = "dice") -> tuple[Outcomes, Outcomes, list[str]]:
    return draw_arms(World(), METRICS[metric], np.random.default_rng(0), seeds=seeds, items=items)


# --- identities ---


def test_equal_arms_differ_by_zero_for_certain() -> None:
    first, _, groups = two_arms()
    found = compare(DICE, {"a": first, "b": dict(first)}, "a", groups=groups)["b"]
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.p_value == found.p_holm == 1


def test_a_gain_that_every_seed_and_item_has_is_certain() -> None:
    base = np.linspace(0.25, 0.5, 12).reshape(2, 6)
    found = compare(DICE, {"a": arm(base), "b": arm(base + 0.25)}, "a", groups=singles(6))["b"]
    assert found.low == pytest.approx(0.25) == found.high
    assert found.p_value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", ["dice", "macro_auroc"])
def test_a_difference_turns_its_sign_with_the_order_of_the_arms(metric: str) -> None:
    first, second, groups = two_arms(metric=metric)
    there = paired_difference(METRICS[metric], first, second, groups=groups)
    back = paired_difference(METRICS[metric], second, first, groups=groups)
    assert there.low < there.value < there.high
    np.testing.assert_allclose([back.value, back.low, back.high], [-there.value, -there.high, -there.low], atol=1e-12)


def test_the_value_is_the_mean_over_seeds_of_the_differences() -> None:
    first, second = arm([[0.5, 0.7], [0.6, 0.8]]), arm([[0.4, 0.6], [0.7, 0.7]])
    found = paired_difference(DICE, first, second, groups=singles(2))
    assert found.value == pytest.approx(((0.6 - 0.5) + (0.7 - 0.7)) / 2)
    assert arm_estimate(DICE, first, groups=singles(2)).value == pytest.approx(0.65)


def test_the_interval_depends_on_the_resampling_seed_and_on_nothing_else_that_is_random() -> None:
    first, second, groups = two_arms()
    found = paired_difference(DICE, first, second, groups=groups, seed=3)
    assert paired_difference(DICE, first, second, groups=groups, seed=3) == found
    assert paired_difference(DICE, first, second, groups=groups, seed=4).low != found.low
    backwards = [dict(reversed(a.items())) for a in (first, second)]
    assert paired_difference(DICE, *backwards, groups=groups, seed=3) == found


def test_a_lower_is_better_metric_keeps_the_sign_of_first_minus_second() -> None:
    worse, better = arm([[0.5, 0.6, 0.7]] * 2), arm([[0.6, 0.7, 0.9]] * 2)
    assert paired_difference(HD95, worse, better, groups=singles(3)).value == pytest.approx(4 / 3)


# --- textbook formulas ---


def test_without_an_effect_of_items_it_is_the_paired_t_interval_over_seeds() -> None:
    first = np.array([0.80, 0.83, 0.85, 0.79, 0.84])
    second = np.array([0.78, 0.82, 0.80, 0.80, 0.81])
    expected = stats.ttest_rel(first, second)
    found = compare(
        DICE, {"a": arm(first[:, None].repeat(8, 1)), "b": arm(second[:, None].repeat(8, 1))}, "b", groups=singles(8)
    )["a"]
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seeds", [1, 3])
def test_without_an_effect_of_seeds_it_is_the_t_interval_over_items(seeds: int) -> None:
    row = np.random.default_rng(0).uniform(0.6, 0.9, 50)
    found = arm_estimate(DICE, arm([row] * seeds), groups=singles(50), resamples=20_000)
    expected = stats.ttest_1samp(row, 0).confidence_interval(0.95)
    assert (found.high - found.low) == pytest.approx(expected.high - expected.low, rel=0.02)


def test_the_variance_is_that_of_the_two_way_analysis_of_variance() -> None:
    """With a mean for a score the parts have closed forms: mean squares of seeds, items and the rest."""
    random = np.random.default_rng(1)
    seeds, items = 6, 40
    dice = 0.7 + 0.02 * random.normal(size=(seeds, 1)) + 0.05 * random.normal(size=items)
    dice = dice + 0.04 * random.normal(size=(seeds, items))
    rows, columns = dice.mean(1), dice.mean(0)
    of_seeds = items * rows.var(ddof=1)
    of_items = seeds * columns.var(ddof=1)
    rest = np.square(dice - rows[:, None] - columns + dice.mean()).sum() / ((seeds - 1) * (items - 1))
    seed_part, item_part = of_seeds / (seeds * items), (of_items - rest) / (seeds * items)
    degrees = (seed_part + item_part) ** 2 / (seed_part**2 / (seeds - 1) + item_part**2 / (items - 1))
    half = stats.t.ppf(0.975, degrees) * np.sqrt(seed_part + item_part)
    found = arm_estimate(DICE, arm(dice), groups=singles(items), resamples=20_000)
    assert (found.low, found.high) == pytest.approx((dice.mean() - half, dice.mean() + half), abs=0.03 * half)


def test_items_of_one_lesion_weigh_as_one() -> None:
    """Every item four times is no more evidence than once, when the four are named as one lesion."""
    random = np.random.default_rng(2)
    dice = random.uniform(0.5, 0.9, 30) + random.normal(0, 0.01, (3, 30))
    once = arm_estimate(DICE, arm(dice), groups=singles(30))
    copied = arm(dice.repeat(4, axis=1))
    lesions = [str(number) for number in np.arange(30).repeat(4)]
    np.testing.assert_allclose(
        [getattr(arm_estimate(DICE, copied, groups=lesions), name) for name in ("low", "high")], [once.low, once.high]
    )
    naive = arm_estimate(DICE, copied, groups=singles(120))
    assert naive.high - naive.low < 0.6 * (once.high - once.low)  # about one half


def test_resamples_draw_whole_lesions_and_the_same_ones_for_every_arm() -> None:
    groups = ["a", "b", "a", "c", "b"]
    marks = [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]  # both of lesion a
    scores = resampled_scores(DICE, arm(marks), groups, resamples=200)
    assert scores.shape == (200, 2)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])
    assert len(np.unique(scores)) > 2


# --- coverage ---


@pytest.mark.parametrize(
    ("metric", "world", "items"),
    [
        ("dice", World(seed_effect=0), 100),
        ("dice", World(), 234),
        ("dice", World(seed_effect=0.15), 100),
        ("dice", World(images_per_lesion=3), 234),
        ("hd95_px", World(), 100),
        ("balanced_accuracy", World(), 100),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(metric: str, world: World, items: int) -> None:
    """Five seeds; 400 studies tell 95 % to within 2.2 points (two standard errors)."""
    truth, _ = true_difference(world, METRICS[metric], items)
    found = coverage(world, METRICS[metric], truth, seeds=5, items=items, repetitions=400)["used"]
    assert 0.928 <= found.share <= 0.972


def test_the_plain_percentile_interval_misses_too_often_where_seeds_matter() -> None:
    world = World(seed_effect=0.15)
    truth, _ = true_difference(world, DICE, 234)
    assert coverage(world, DICE, truth, seeds=5, items=234, repetitions=200)["plain"].share < 0.9


def test_images_taken_for_lesions_of_their_own_make_the_interval_too_narrow() -> None:
    world = World(images_per_lesion=4, seed_effect=0)
    truth, _ = true_difference(world, DICE, 200)
    found = coverage(world, DICE, truth, seeds=5, items=200, repetitions=200, cluster=False)
    assert found["used"].share < 0.85


# --- several trainings of each part of the real pairs ---


def nested_arms(random: np.random.Generator, parts: int, repeats: int, items: int) -> tuple[Outcomes, Outcomes]:
    """Dice of two arms of equal expectation: their difference varies with the part, and less within it."""
    shared, of_parts = random.normal(0, 0.05, items), random.normal(0, 0.03, parts)
    found: tuple[dict[int, Outcome], dict[int, Outcome]] = {}, {}
    for part in range(parts):
        for repeat in range(repeats):
            both = 0.7 + shared + random.normal(0, 0.02, (2, items))
            both[0] += of_parts[part] + random.normal(0, 0.01)
            for outcomes, row in zip(found, both, strict=True):
                outcomes[part + repeat * PARTS] = replace(arm([row])[0])  # type: ignore[type-var]
    return found


def test_trainings_of_one_part_count_as_their_mean() -> None:
    """Dice is a mean over items, so the mean of two networks' Dice is that of a network with the mean outcomes."""
    first, second = nested_arms(np.random.default_rng(3), 4, 2, 30)

    def averaged(outcomes: Outcomes) -> Outcomes:
        return arm([np.mean([outcomes[part].dice, outcomes[part + PARTS].dice], axis=0) for part in range(4)])  # type: ignore[union-attr]

    nested = paired_difference(DICE, first, second, groups=singles(30))
    plain = paired_difference(DICE, averaged(first), averaged(second), groups=singles(30))
    np.testing.assert_allclose(list(vars(nested).values()), list(vars(plain).values()))
    own = arm_estimate(DICE, first, groups=singles(30))
    np.testing.assert_allclose(own.low, arm_estimate(DICE, averaged(first), groups=singles(30)).low)


def test_trainings_of_one_part_taken_for_independent_make_the_interval_too_narrow() -> None:
    """Five parts of two trainings; the nested interval holds no difference as often as it says."""
    held, naive = 0, 0
    for repetition in range(300):
        first, second = nested_arms(np.random.default_rng([7, repetition]), 5, 2, 60)
        apart = [dict(enumerate(outcomes.values())) for outcomes in (first, second)]
        held += not paired_difference(DICE, first, second, groups=singles(60), resamples=200).excludes_zero
        naive += not paired_difference(DICE, *apart, groups=singles(60), resamples=200).excludes_zero
    assert 0.92 <= held / 300 <= 0.98, held
    assert naive / 300 < 0.88, naive


def test_the_true_difference_of_the_simulation_is_the_integral() -> None:
    """Independent of the drawing: the logit of a Dice is normal, so its mean is a Gauss-Hermite sum."""
    world = World(gain=0.3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(world.item**2 + world.item_in_arm**2 + world.seed_effect**2 + world.rest**2)
    means = [(weights / (1 + np.exp(-(2 + gain + spread * nodes)))).sum() / weights.sum() for gain in (world.gain, 0)]
    assert true_difference(world, DICE, 234)[0] == pytest.approx(means[0] - means[1], abs=1e-3)


# --- several arms ---


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.01])), [0.02, np.nan, 0.02])
    assert holm(np.array([])).shape == (0,)


def test_a_comparison_agrees_with_the_paired_difference_and_its_p_value_with_the_interval() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_arms(World(gain=gain), DICE, random, seeds=5, items=60)[0] for gain in np.linspace(0, 0.5, 12)]
    arms = {f"arm {number}": one for number, one in enumerate(drawn)}
    found = compare(DICE, arms, "arm 0", groups=singles(60))
    assert list(found) == list(arms)[1:]
    claims = [comparison.p_value < 0.05 for comparison in found.values()]
    assert claims == [c.low > 0 or c.high < 0 for c in found.values()]
    assert 0 < sum(claims) < len(claims)
    alone = paired_difference(DICE, arms["arm 3"], arms["arm 0"], groups=singles(60))
    assert found["arm 3"] == replace(alone, p_holm=found["arm 3"].p_holm)
    ordered = sorted(found.values(), key=lambda comparison: comparison.p_value)
    assert ordered[0].p_holm == pytest.approx(11 * ordered[0].p_value)  # the smallest is Bonferroni's
    assert ordered[-1].p_holm >= ordered[-1].p_value


def test_the_best_arm_is_the_highest_or_the_lowest_as_the_metric_wants() -> None:
    arms = {"low": arm([[0.5, 0.6]]), "high": arm([[0.8, 0.9]]), "same": arm([[0.9, 0.8]])}
    assert best_of(arms, DICE) == best_of(arms, HD95) == "high"


# --- what is undefined ---


def classified(truth: list[int], seeds: int = 3) -> Outcomes:
    random = np.random.default_rng(0)
    return {
        seed: ClassificationOutcome(["nevus", "melanoma"], np.array(truth), random.dirichlet([1, 1], len(truth)))
        for seed in range(seeds)
    }


def test_a_metric_without_its_class_has_neither_value_nor_interval() -> None:
    nevi = classified([0] * 6)
    found = arm_estimate(METRICS["melanoma_sensitivity"], nevi, groups=singles(6))
    assert np.isnan([found.value, found.low, found.high]).all()
    compared = compare(METRICS["macro_auroc"], {"a": nevi, "b": nevi}, "a", groups=singles(6))["b"]
    assert np.isnan([compared.p_value, compared.p_holm]).all()
    with pytest.raises(InputError, match="Macro AUROC"):
        best_of({"a": nevi}, METRICS["macro_auroc"])


def test_a_class_that_some_resamples_lack_leaves_an_interval_from_the_others() -> None:
    rare = classified([0] * 20 + [1] * 2)
    scores = resampled_scores(BALANCED, rare, singles(22))
    assert 0.1 < np.isnan(scores[:, 0]).mean() < 0.17  # (20 / 22) ** 22 is 0.12
    found = arm_estimate(BALANCED, rare, groups=singles(22))
    assert found.low < found.value < found.high


def test_a_class_that_most_resamples_lack_leaves_no_interval() -> None:
    classes = ["nevus", "melanoma", "vascular lesion"]
    sparse: Outcomes = {0: ClassificationOutcome(classes, np.array([0] * 8 + [1, 2]), np.full((10, 3), 1 / 3))}
    found = arm_estimate(BALANCED, sparse, groups=singles(10))  # both rare ones are drawn in about 40 %
    assert found.value == pytest.approx(1 / 3) and np.isnan([found.low, found.high]).all()


# --- refusals ---


def test_arms_of_other_seeds_or_items_are_not_compared() -> None:
    two, three = arm([[0.5, 0.6]] * 2), arm([[0.5, 0.6]] * 3)
    with pytest.raises(InputError, match="same seeds"):
        paired_difference(DICE, two, three, groups=singles(2))
    with pytest.raises(InputError, match="test items"):
        paired_difference(DICE, two, arm([[0.5, 0.6, 0.7]] * 2), groups=singles(2))
    with pytest.raises(InputError, match="test items"):
        paired_difference(BALANCED, classified([0, 1, 1]), classified([1, 0, 1]), groups=singles(3))
    with pytest.raises(InputError, match="test items"):
        paired_difference(DICE, two, classified([0, 1], seeds=2), groups=singles(2))


def test_an_arm_is_checked_and_groups_must_fit() -> None:
    with pytest.raises(InputError, match="without outcomes"):
        arm_estimate(DICE, {}, groups=singles(2))
    with pytest.raises(InputError, match="test items"):
        arm_estimate(DICE, {0: arm([[0.5, 0.6]])[0], 1: arm([[0.5]])[0]}, groups=singles(2))
    with pytest.raises(InputError, match="3 groups"):
        arm_estimate(DICE, arm([[0.5, 0.6]]), groups=singles(3))
    with pytest.raises(InputError, match="1 group of"):
        arm_estimate(DICE, arm([[0.5, 0.6]]), groups=["a", "a"])


# --- the study ---


def test_the_study_tabulates_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_coverage, "TRUTH_ITEMS", 500)
    rows = measure(2)
    lines = table(rows)
    assert len(lines) == len(rows) + 2 and len({line.count("|") for line in lines}) == 1
    assert {row["metric"] for row in rows} >= {"dice", "hd95_px", "balanced_accuracy", "macro_auroc", "ece"}
    assert {row["seeds"] for row in rows} == {3, 5, 10}


def test_the_coverage_that_the_documentation_names_is_the_measured_one() -> None:
    file = Path(__file__).resolve().parents[1] / "docs" / "results" / "interval_coverage.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    of_error = [row["used_share"] for row in rows if row["metric"] == "ece"]
    few = [row["used_share"] for row in rows if row["seeds"] == 3]
    many = [row["used_share"] for row in rows if row["seeds"] > 3 and row["metric"] != "ece"]
    assert min(many) >= 0.93 and max(many) <= 0.96
    assert min(few) >= 0.91
    assert [round(share, 2) for share in of_error] == [0.92]
