"""From the outcomes of trials to scores, differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from skindualgen.benchmarking.arms import Arm
from skindualgen.benchmarking.plan import Regime
from skindualgen.benchmarking.results import ArmResult, Difference, LeftOut, Reference, RegimeResult, Score, Verdict
from skindualgen.benchmarking.statistics import ArmOutcomes, Comparison, arm_estimate, best_of, compare
from skindualgen.benchmarking.trials import TaskData, TrialRecord
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.outcomes import (
    CLASSIFICATION_METRICS,
    SEGMENTATION_METRICS,
    ClassificationOutcome,
    Metric,
    undefined_metrics,
)

TOGETHER = ("hybrid", "pretrain")
"""how the names of arms begin that use real and generated pairs"""
SIGNIFICANCE = 0.05

Records = Mapping[tuple[str, int], TrialRecord]
"""By arm's name and seed."""


def metrics_of(data: TaskData) -> dict[str, Metric]:
    """Return the metrics of a task by name."""
    return SEGMENTATION_METRICS if data.task == "segment" else CLASSIFICATION_METRICS


def undefined_of(data: TaskData) -> dict[str, str]:
    """Return the metrics that the test part leaves undefined, each with the reason."""
    if data.task == "segment":
        return {}
    truth = np.array([data.classes.index(str(name)) for name in data.test.diagnoses], np.int64)
    even = np.full((len(truth), len(data.classes)), 1 / len(data.classes))
    return undefined_metrics(ClassificationOutcome(list(data.classes), truth, even))


def regime_result(data: TaskData, regime: Regime, records: Records) -> RegimeResult:
    """Compare the arms of a regime.

    Args:
        data: of the task; its test groups are the clusters of the intervals.
        regime: the arms and their pools.
        records: of every trial of the regime.
    """
    metrics = {name: metric for name, metric in metrics_of(data).items() if name not in undefined_of(data)}
    seeds = sorted({seed for _, seed in regime.trials})
    outcomes = {arm.name: ArmOutcomes({seed: records[arm.name, seed].outcome for seed in seeds}) for arm in regime.arms}
    synthetic = {arm.name for arm in regime.arms if arm.uses_synthetic}
    others = {name: outcome for name, outcome in outcomes.items() if name not in synthetic}
    best = {name: best_of(others, metric) for name, metric in metrics.items()} if others else {}
    found: dict[str, dict[Reference, dict[str, Difference]]] = {arm.name: {} for arm in regime.arms}
    for name, metric in metrics.items():
        to: dict[str, dict[str, Difference]] = {}
        for reference in get_args(Reference):
            chosen = best.get(name, "") if reference == "best" else reference
            if chosen in outcomes and chosen not in to:
                to[chosen] = _differences(metric, outcomes, chosen, synthetic, data.test.groups)
            for arm, difference in to.get(chosen, {}).items():
                found[arm].setdefault(reference, {})[name] = difference
    arms = [
        _arm_result(arm, regime, records, outcomes[arm.name], metrics, data.test.groups, found[arm.name])
        for arm in regime.arms
    ]
    left_out = [LeftOut(name=arm.name, title=arm.title, reason=reason) for arm, reason in regime.left_out]
    return RegimeResult(
        real_pairs=regime.real_pairs,
        whole=regime.whole,
        diagnoses=regime.diagnoses,
        best=best,
        arms=arms,
        left_out=left_out,
        verdicts=[verdict(metric, arms) for metric in metrics.values()],
    )


def verdict(metric: Metric, arms: Sequence[ArmResult]) -> Verdict:
    """Say whether real and generated pairs together beat both real replay and classical augmentation by one metric."""
    tested: list[tuple[ArmResult, Difference, Difference]] = [
        (arm, arm.differences["replay"][metric.name], arm.differences["augment"][metric.name])
        for arm in arms
        if arm.name.startswith(TOGETHER) and {"replay", "augment"} <= set(arm.differences)
    ]
    if not tested:
        text = f"{metric.title}: not tested, which takes the arms augment, replay and a hybrid or pretrain."
        return Verdict(metric=metric.name, helped=None, winners=[], winners_holm=[], closest=None, text=text)
    sign = 1 if metric.higher_is_better else -1

    def gain(difference: Difference) -> float:
        return -math.inf if difference.value is None else sign * difference.value

    winners = [
        (arm, replay, augment)
        for arm, replay, augment in tested
        if all(d.excludes_zero and gain(d) > 0 for d in (replay, augment))
    ]
    adjusted = [
        arm.name for arm, *pair in winners if all(d.p_holm is not None and d.p_holm < SIGNIFICANCE for d in pair)
    ]
    arm, replay, augment = max(winners or tested, key=lambda item: min(gain(item[1]), gain(item[2])))
    closest = f"{arm.name} {_signed(replay, metric)} against replay and {_signed(augment, metric)} against augment"
    if winners:
        names = ", ".join(item[0].name for item in winners)
        holm = f"after Holm's adjustment for the arms tried: {', '.join(adjusted) or 'none'}"
        text = f"{metric.title}: {names} better than both real replay and augmentation; at most {closest}; {holm}."
    else:
        text = (
            f"{metric.title}: no hybrid (or pretraining) beats both real replay and augmentation; closest is {closest}."
        )
    return Verdict(
        metric=metric.name,
        helped=bool(winners),
        winners=[item[0].name for item in winners],
        winners_holm=adjusted,
        closest=arm.name,
        text=text,
    )


def _differences(
    metric: Metric, outcomes: Mapping[str, ArmOutcomes], reference: str, synthetic: set[str], groups: Sequence[str]
) -> dict[str, Difference]:
    """Compare arms with and arms without generated pairs apart, so that Holm's adjustment counts those of one kind."""
    found: dict[str, Comparison] = {}
    for kind in (synthetic, set(outcomes) - synthetic):
        family = {name: outcome for name, outcome in outcomes.items() if name in kind or name == reference}
        if len(family) > 1:
            found |= compare(metric, family, reference, groups=groups)
    return {
        name: Difference(
            **_score(comparison.difference).model_dump(),
            p_value=_finite(comparison.p_value),
            p_holm=_finite(comparison.p_holm),
        )
        for name, comparison in found.items()
    }


def _arm_result(
    arm: Arm,
    regime: Regime,
    records: Records,
    outcomes: ArmOutcomes,
    metrics: Mapping[str, Metric],
    groups: Sequence[str],
    differences: dict[Reference, dict[str, Difference]],
) -> ArmResult:
    seeds = sorted(outcomes.outcomes)
    pools = [regime.trials[arm.name, seed].pool for seed in seeds]
    return ArmResult(
        name=arm.name,
        title=arm.title,
        definition=arm.definition,
        uses_synthetic=arm.uses_synthetic,
        ratio=arm.ratio,
        augment=arm.augment,
        real_items=float(np.mean([len(pool.real) for pool in pools])),
        synthetic_items=float(np.mean([len(pool.synthetic) for pool in pools])),
        synthetic_share=float(np.mean([pool.weights[len(pool.real) :].sum() for pool in pools])),
        scores={name: _score(arm_estimate(metric, outcomes, groups=groups)) for name, metric in metrics.items()},
        by_seed={name: [_finite(x) for x in outcomes.scores(metric)] for name, metric in metrics.items()},
        differences=differences,
        seconds=float(np.mean([records[arm.name, seed].seconds for seed in seeds])),
        final_loss=float(np.mean([records[arm.name, seed].final_loss for seed in seeds])),
    )


def _score(estimate: Estimate) -> Score:
    return Score(value=_finite(estimate.value), low=_finite(estimate.low), high=_finite(estimate.high))


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _signed(difference: Difference, metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    if difference.value is None:
        return "undefined"
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3f}{unit}"
    return f"{difference.value:+.3f}{unit} ({difference.low:+.3f} to {difference.high:+.3f})"
