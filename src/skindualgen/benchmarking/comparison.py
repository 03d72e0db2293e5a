"""From the outcomes of trials to scores, differences and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.results import (
    CONTROLS,
    FURTHER_CONTROLS,
    ArmResult,
    Reference,
    Regime,
    RegimeResult,
    Verdict,
)
from skindualgen.benchmarking.statistics import Difference, Outcomes, arm_estimate, best_of, compare, scores_by_seed
from skindualgen.benchmarking.trials import TaskData, TrialRecord
from skindualgen.metrics.outcomes import ClassificationOutcome
from skindualgen.metrics.scores import CLASSIFICATION_METRICS, SEGMENTATION_METRICS, Metric, undefined_metrics

SIGNIFICANCE = 0.05


def metrics_of(data: TaskData) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics of a task by name, and those that the test part leaves undefined, each with the reason."""
    if data.task == "segment":
        return SEGMENTATION_METRICS, {}
    even = np.full((len(data.truth), len(data.classes)), 1 / len(data.classes))
    undefined = undefined_metrics(ClassificationOutcome(list(data.classes), data.truth, even))
    return {name: metric for name, metric in CLASSIFICATION_METRICS.items() if name not in undefined}, undefined


def regime_result(data: TaskData, regime: Regime, results: Sequence[tuple[Trial, TrialRecord]]) -> RegimeResult:
    """Compare the arms of a regime.

    Args:
        data: of the task; its test groups are the clusters of the intervals.
        regime: what was planned.
        results: all its trials with what they gave.
    """
    metrics, _ = metrics_of(data)
    of_arm: dict[str, list[tuple[Trial, TrialRecord]]] = {}
    for trial, record in results:
        of_arm.setdefault(trial.arm.name, []).append((trial, record))
    outcomes = {name: {trial.seed: record.outcome for trial, record in of} for name, of in of_arm.items()}
    synthetic = {trial.arm.name for trial, _ in results if trial.arm.uses_synthetic}
    others = {name: outcome for name, outcome in outcomes.items() if name not in synthetic}
    best = {name: best_of(others, metric) for name, metric in metrics.items()} if others else {}
    differences: dict[str, dict[Reference, dict[str, Difference]]] = {name: {} for name in of_arm}
    for name, metric in metrics.items():
        to: dict[str, dict[str, Difference]] = {}
        for reference in get_args(Reference):
            chosen = best.get(name, "") if reference == "best" else reference
            if chosen in outcomes and chosen not in to:
                to[chosen] = _differences(metric, outcomes, chosen, synthetic, data.test.groups)
            for arm, difference in to.get(chosen, {}).items():
                differences[arm].setdefault(reference, {})[name] = difference
    arms = [_arm_result(of, metrics, data.test.groups, differences[name]) for name, of in of_arm.items()]
    verdicts = [verdict(metric, arms) for metric in metrics.values()]
    return RegimeResult(**dict(regime), best=best, arms=arms, verdicts=verdicts)


def verdict(metric: Metric, arms: Sequence[ArmResult]) -> Verdict:
    """Say whether real and generated pairs together beat repeated real pairs, augmentation, and what else has run."""
    controls = [*CONTROLS, *(name for name in FURTHER_CONTROLS if any(arm.name == name for arm in arms))]
    tested = [
        (arm, tuple(arm.differences[control][metric.name] for control in controls))
        for arm in arms
        if arm.combines and set(CONTROLS) <= set(arm.differences)
    ]
    if not tested:
        text = f"{metric.title}: not tested, which takes the arms augment, replay and a hybrid or pretrain."
        return Verdict(metric=metric.name, helped=None, text=text)

    def gain(difference: Difference) -> float:
        return -math.inf if math.isnan(difference.value) else difference.value * (1 if metric.higher_is_better else -1)

    winners = [item for item in tested if all(d.excludes_zero and gain(d) > 0 for d in item[1])]
    adjusted = [arm.name for arm, pair in winners if all(difference.p_holm < SIGNIFICANCE for difference in pair)]
    arm, pair = max(winners or tested, key=lambda item: min(gain(difference) for difference in item[1]))
    against = (f"{_signed(d, metric)} against {control}" for control, d in zip(controls, pair, strict=True))
    closest = f"{arm.name} {' and '.join(against)}"
    names = [winner.name for winner, _ in winners]
    further = len(controls) > len(CONTROLS)
    beaten = f"all of {', '.join(controls)}" if further else "both real replay and augmentation"
    if winners:
        holm = f"after Holm's adjustment for the arms tried: {', '.join(adjusted) or 'none'}"
        said = f"{', '.join(names)} better than {beaten}; at most {closest}; {holm}."
    else:
        said = f"no hybrid (or pretraining) beats {beaten}; closest is {closest}."
    return Verdict(
        metric=metric.name,
        helped=bool(winners),
        winners=names,
        winners_holm=adjusted,
        closest=arm.name,
        text=f"{metric.title}: {said}",
    )


def _differences(
    metric: Metric, outcomes: Mapping[str, Outcomes], reference: str, synthetic: set[str], groups: Sequence[str]
) -> dict[str, Difference]:
    """Compare arms with and arms without generated pairs apart, so that Holm's adjustment counts those of one kind."""
    found: dict[str, Difference] = {}
    for kind in (synthetic, set(outcomes) - synthetic):
        family = {name: outcome for name, outcome in outcomes.items() if name in kind or name == reference}
        if len(family) > 1:
            found |= compare(metric, family, reference, groups=groups)
    return found


def _arm_result(
    results: Sequence[tuple[Trial, TrialRecord]],
    metrics: Mapping[str, Metric],
    groups: Sequence[str],
    differences: dict[Reference, dict[str, Difference]],
) -> ArmResult:
    outcomes = {trial.seed: record.outcome for trial, record in results}
    by_seed = {name: scores_by_seed(metric, outcomes).tolist() for name, metric in metrics.items()}
    return ArmResult(
        **dict(results[0][0].arm),
        real_items=float(np.mean([len(trial.real) for trial, _ in results])),
        synthetic_items=float(np.mean([len(trial.synthetic) for trial, _ in results])),
        synthetic_share=float(np.mean([trial.weights[len(trial.real) :].sum() for trial, _ in results])),
        scores={name: arm_estimate(metric, outcomes, groups=groups) for name, metric in metrics.items()},
        by_seed={name: [x if math.isfinite(x) else None for x in scores] for name, scores in by_seed.items()},
        differences=differences,
        seconds=float(np.mean([record.seconds for _, record in results])),
        final_loss=float(np.mean([record.final_loss for _, record in results])),
    )


def _signed(difference: Difference, metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    if math.isnan(difference.value):
        return "undefined"
    if math.isnan(difference.low):
        return f"{difference.value:+.3f}{unit}"
    return f"{difference.value:+.3f}{unit} ({difference.low:+.3f} to {difference.high:+.3f})"
