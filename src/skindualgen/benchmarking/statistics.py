"""Intervals for scores of trained networks, over training seeds and over test items at once.

Both vary: another seed gives another network, another test part another score, and all seeds share one test part. The
score of seed s, or its difference between two arms, is modelled as theta + a_s + b + e_s: a is the seed's own, b what
the draw of test items does to every seed alike, e what it does to one seed. Then over S seeds

    variance of the mean = (var a + var e) / S + var b.

The ordinary variance between the seeds' scores estimates var a + var e; the covariance of two seeds' scores in a
bootstrap of the test items estimates var b. So the many items are bootstrapped, and the few seeds enter through their
variance and Student's t: Obuchowski and Rockette's analysis of several readers of the same cases, the standard of
diagnostic radiology, with seeds for readers.

The interval that comes to mind first, percentiles of a bootstrap that redraws seeds and items, is not used: of S seeds
it sees (S - 1) / S of their variance, it has no Student's t, and it counts var e more than once (Owen). So it is too
narrow where seeds matter and too wide where they do not. Both are simulated side by side in
``docs/results/interval_coverage.md``: with 5 seeds or more this one holds 93 to 96 %, with 3 seeds at least 91 %; of
the calibration error, whose absolute values a bootstrap shakes too little, 92 %.

Where several trainings share a part of the real pairs (`skindualgen.benchmarking.subsets.part_of`), they are no
independent draws: parts vary, and trainings within parts. The mean over the trainings of a part takes the place of a
seed's score in all of the above, as in a balanced nested design: the variance between these means holds that of parts
and, divided by their number, that of trainings, whatever else belongs to a part alone (an adapter trained on it, the
pairs drawn from that) included.

Items of one lesion or patient are no independent draws: ``groups`` names the cluster of each item, and clusters are
drawn whole.

Source: Obuchowski and Rockette, Communications in Statistics - Simulation and Computation 24 (1995) 285; degrees of
freedom: Hillis, Statistics in Medicine 26 (2007) 596; clusters: Rutter, Academic Radiology 7 (2000) 413; Owen, The
pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) 386.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.benchmarking.subsets import part_of
from skindualgen.contracts import InputError
from skindualgen.metrics.intervals import CONFIDENCE, RESAMPLES, Estimate, cluster_resamples
from skindualgen.metrics.outcomes import ClassificationOutcome, Outcome
from skindualgen.metrics.scores import Metric, value

LEAST_DEFINED = 0.5
"""Share of the resamples in which a score must be defined. A class of one lesion is missing from 37 % of them, and what
the others say of its score is that it does not vary; of two lesions, from 14 %."""

Floats = NDArray[np.float64]


Outcomes = Mapping[int, Outcome]
"""What the networks of one arm did on the test part, by seed; the same test items in the same order in each."""


@dataclass(frozen=True)
class Difference(Estimate):
    """The difference of one arm to a reference: arm - reference, paired over seeds and test items.

    Attributes:
        value, low, high: with its own 95 % interval, which is not widened for the number of arms.
        p_value: two-sided, of no difference; NaN where the interval is.
        p_holm: adjusted for all arms that were compared with that reference: whatever the truth, the chance of even one
            false claim "p_holm < 0.05" among them is at most 5 %. For one metric; choose it before looking.
    """

    p_value: float = math.nan
    p_holm: float = math.nan

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; not where it is undefined."""
        return self.low > 0 or self.high < 0


def scores_by_seed(metric: Metric, arm: Outcomes) -> Floats:
    """Return the score of each seed [s], seeds in ascending order."""
    return np.array([value(metric, arm[seed]) for seed in sorted(arm)])


def arm_estimate(
    metric: Metric, arm: Outcomes, *, groups: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Return the mean score over the seeds, with an interval over seeds and test items.

    Args:
        metric: one of :mod:`skindualgen.metrics.scores`.
        arm: of one part of the real pairs alone the interval is over the test items only, and whoever shows it must say
            so. Each part has as many trainings as the others.
        groups: [n], the lesion or patient of each test item.
        seed: of the resampling.
        resamples: of the test items.

    Returns:
        All NaN where the metric is undefined on this test part; the ends NaN where it is undefined in more than
        half of the resamples. The interval is symmetric, so near a limit of the score it can reach beyond.

    Raises:
        InputError: no seeds, other test items in one than in another, not one group for each item, or fewer than 2
            groups.
    """
    resampled = resampled_scores(metric, arm, groups, seed, resamples)
    return _infer(_by_part(scores_by_seed(metric, arm), arm), _by_part(resampled, arm), groups)[0]


def compare(
    metric: Metric,
    arms: Mapping[str, Outcomes],
    reference: str,
    *,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Return the difference of every other arm to the reference, with p-values adjusted by Holm's method.

    Paired twice: the two networks of a seed are subtracted before anything is averaged, and a resample weighs the test
    items of both alike, so what is hard for both cancels. Arms with equal outcomes give 0 (0 to 0).

    Args:
        arms: by name, the reference among them.
        reference: its name. If it was chosen as the best of several on this very test part, its score is flattered by
            that choice, and the others' differences to it are too low rather than too high.
        metric, groups, seed, resamples: as in :func:`arm_estimate`.

    Raises:
        InputError: an arm has other seeds or other test items than the reference; groups as in :func:`arm_estimate`.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    base = arms[reference]
    for name, arm in arms.items():
        if set(arm) != set(base):
            got = f"seeds {sorted(arm)} of {name} and {sorted(base)} of {reference}"
            raise InputError(got, "the same seeds", "train both arms with every seed")
        _check_same_items([*arm.values(), *base.values()])
    base_scores, base_resampled = scores_by_seed(metric, base), resampled_scores(metric, base, groups, seed, resamples)
    found = {
        name: _infer(
            _by_part(scores_by_seed(metric, arm) - base_scores, arm),
            _by_part(resampled_scores(metric, arm, groups, seed, resamples) - base_resampled, arm),
            groups,
        )
        for name, arm in arms.items()
        if name != reference
    }
    adjusted = holm(np.array([p_value for _, p_value in found.values()]))
    return {
        name: Difference(**vars(estimate), p_value=p_value, p_holm=float(p_holm))
        for (name, (estimate, p_value)), p_holm in zip(found.items(), adjusted, strict=True)
    }


def best_of(arms: Mapping[str, Outcomes], metric: Metric) -> str:
    """Return the name of the arm with the best mean score over its seeds; the first of equals.

    Raises:
        InputError: no arm has a defined score.
    """
    means = {name: float(scores_by_seed(metric, arm).mean()) for name, arm in arms.items()}
    defined = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    if not defined:
        raise InputError(f"no arm with a defined {metric.title}", "one or more", "choose another metric")
    return max(defined, key=lambda name: defined[name] if metric.higher_is_better else -defined[name])


def holm(p_values: Floats) -> Floats:
    """Return Holm's step-down adjusted p-values [k]; NaN stays NaN and does not count as a comparison."""
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]  # NaN sorts last
    adjusted = np.full(len(p_values), np.nan)
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def resampled_scores(
    metric: Metric, arm: Outcomes, groups: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Floats:
    """Return the score of each seed on resampled test items [r, s], seeds in ascending order.

    The draws depend on the groups and on ``seed`` alone: they are the same for every network, arm and metric.

    Raises:
        InputError: as in :func:`arm_estimate`.
    """
    outcomes = [arm[key] for key in sorted(arm)]
    if not outcomes:
        raise InputError("an arm without outcomes", "one seed or more", "train its networks")
    _check_same_items(outcomes)
    if len(groups) != len(outcomes[0]):
        raise InputError(f"{len(groups)} groups", f"{len(outcomes[0])}, one per item", "name every item's lesion")
    weights = cluster_resamples(tuple(groups), seed, resamples)
    return np.stack([metric.score(outcome, weights) for outcome in outcomes], axis=1)


def _by_part(scores: Floats, arm: Outcomes) -> Floats:
    """Return the mean over the trainings of each part [..., p] of scores by seed [..., s], seeds in ascending order."""
    parts = np.array([part_of(seed) for seed in sorted(arm)])
    return np.stack([scores[..., parts == part].mean(-1) for part in np.unique(parts)], axis=-1)


def _infer(scores: Floats, resampled: Floats, groups: Sequence[str]) -> tuple[Estimate, float]:
    """Put the variance of ``scores`` [s], one a part of the real pairs, and that of ``resampled`` ones [r, s] together.

    Returns:
        The estimate, and the p-value of 0.
    """
    seeds, clusters, mean = len(scores), len(set(groups)), float(scores.mean())
    defined = resampled[np.isfinite(resampled).all(1)]
    if len(defined) < LEAST_DEFINED * len(resampled):
        return Estimate(mean), math.nan
    covariance = np.atleast_2d(np.cov(defined, rowvar=False)) * clusters / (clusters - 1)  # [s, s]
    if seeds == 1:
        variance, degrees = float(covariance[0, 0]), clusters - 1.0
    else:
        of_seeds = float(scores.var(ddof=1)) / seeds
        shared = max(0.0, float(covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1)))
        variance = of_seeds + shared
        noise = of_seeds**2 / (seeds - 1) + shared**2 / (clusters - 1)  # Satterthwaite
        degrees = variance**2 / noise if noise else math.inf
    error = math.sqrt(variance)
    if error == 0:
        return Estimate(mean, mean, mean), float(mean == 0)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    return Estimate(mean, mean - half, mean + half), float(2 * stats.t.sf(abs(mean) / error, degrees))


def _check_same_items(outcomes: Sequence[Outcome]) -> None:
    first = outcomes[0]
    for other in outcomes[1:]:
        same = type(other) is type(first) and len(other) == len(first)
        if same and isinstance(first, ClassificationOutcome) and isinstance(other, ClassificationOutcome):
            same = other.classes == first.classes and np.array_equal(other.truth, first.truth)
        if not same:
            raise InputError("outcomes on different test items", "one test part, one order", "score all of them on it")
