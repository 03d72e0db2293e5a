"""The figures of a benchmark: differences of all arms as a forest, and scores over the share of generated pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from skindualgen.benchmarking.results import (
    ArmResult,
    Difference,
    MetricInfo,
    Reference,
    RegimeResult,
    Score,
    TaskResult,
)
from skindualgen.report.figures import ACCENT, CONTRAST, INK, RULE, SOFT, figure_style, new_figure

WIDTH = 9.0
"""Width of a figure in inches of 72 px, about that of the page's text."""
LINES = (ACCENT, CONTRAST, INK, SOFT)
"""Colours of the lines, by rising number of real pairs."""
NO_SYNTHETIC = 0.0
"""Place of the arm with augmentation alone on the axis of ratios."""


def forest(regime: RegimeResult, metric: MetricInfo) -> Figure:
    """Draw every arm's difference to real and to the best arm without generated pairs, with 95 % intervals.

    A reference that was not among the arms has no panel.
    """
    titles = _forest_panels(regime, metric)
    figure = new_figure(WIDTH, 1.3 + 0.3 * len(regime.arms))
    with figure_style():
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for panel, (reference, title) in zip(panels, titles.items(), strict=True):
            for row, arm in enumerate(regime.arms):
                difference = arm.differences.get(reference, {}).get(metric.name)
                if difference is not None and difference.value is not None:
                    _interval(panel, difference, row, ACCENT if arm.uses_synthetic else CONTRAST)
            panel.axvline(0, color=INK, linewidth=0.8)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel(f"difference in {with_unit(metric)} ({_better(metric)})")
            panel.set_yticks(range(len(regime.arms)), [arm.title for arm in regime.arms])
            panel.set_ylim(len(regime.arms) - 0.4, -0.6)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="x", linewidth=0.6)
    return figure


def has_forest(regime: RegimeResult, metric: MetricInfo) -> bool:
    """Whether a metric has differences to draw."""
    return bool(_forest_panels(regime, metric))


def _forest_panels(regime: RegimeResult, metric: MetricInfo) -> dict[Reference, str]:
    """Return reference -> title of its panel."""
    best = regime.arm(regime.best.get(metric.name, ""))
    titles: dict[Reference, str] = {"real": "minus real"}
    if best is not None:
        titles["best"] = f"minus the best without generated pairs:\n{best.title}"
    return {
        reference: title
        for reference, title in titles.items()
        if any(metric.name in arm.differences.get(reference, {}) for arm in regime.arms)
    }


def dose_response(task: TaskResult, metric: MetricInfo) -> Figure:
    """Draw the score over the number of generated pairs for each real one, a line for each amount of real pairs.

    0 is the arm with classical augmentation alone.
    """
    curves = [(regime, curve) for regime in task.regimes if (curve := _dose_curve(regime, metric))]
    ratios = sorted({ratio for _, curve in curves for ratio in curve})
    figure = new_figure(WIDTH, 3.4)
    with figure_style():
        panel = figure.subplots()
        for index, (regime, curve) in enumerate(curves):
            colour = LINES[index % len(LINES)]
            shift = 0.06 * (index - (len(curves) - 1) / 2)
            places = [ratios.index(ratio) + shift for ratio in curve]
            values = [float(score.value or 0) for score in curve.values()]
            label = f"{regime.real_pairs} real pairs"
            panel.plot(places, values, "o-", color=colour, linewidth=1.6, markersize=5.5, label=label)
            for place, score in zip(places, curve.values(), strict=True):
                _whisker(panel, place, score, colour)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(curves), borderaxespad=0)
        panel.set_xticks(range(len(ratios)), [f"{ratio:g}" if ratio else "0: augmentation" for ratio in ratios])
        panel.set_xlim(-0.4, len(ratios) - 0.4)
        panel.set_xlabel("generated pairs for each real one")
        panel.set_ylabel(f"{with_unit(metric)} ({_better(metric)})")
        panel.grid(axis="y", linewidth=0.6, color=RULE)
    return figure


def has_dose_response(task: TaskResult) -> bool:
    """Whether a task has a hybrid arm to draw."""
    return any(arm.name.startswith("hybrid") for regime in task.regimes for arm in regime.arms)


def _dose_curve(regime: RegimeResult, metric: MetricInfo) -> dict[float, Score]:
    """Return ratio -> defined score, by rising ratio."""
    points = [(NO_SYNTHETIC if arm.name == "augment" else arm.ratio, arm) for arm in _dosed(regime.arms)]
    found = {ratio: arm.scores[metric.name] for ratio, arm in points if ratio is not None}
    return {ratio: found[ratio] for ratio in sorted(found) if found[ratio].value is not None}


def _dosed(arms: Sequence[ArmResult]) -> list[ArmResult]:
    return [arm for arm in arms if arm.name == "augment" or arm.name.startswith("hybrid")]


def _interval(panel: Any, difference: Difference, row: int, colour: str) -> None:
    if difference.low is not None and difference.high is not None:
        panel.plot([difference.low, difference.high], [row, row], color=colour, linewidth=1.8)
    panel.plot([difference.value], [row], "o" if difference.excludes_zero else "D", color=colour, markersize=5.5,
               markerfacecolor=colour if difference.excludes_zero else "none")  # fmt: skip


def _whisker(panel: Any, place: float, score: Score, colour: str) -> None:
    if score.low is not None and score.high is not None:
        panel.plot([place, place], [score.low, score.high], color=colour, linewidth=1.2)


def with_unit(metric: MetricInfo) -> str:
    """Return a metric's title with its unit, if it has one."""
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def _better(metric: MetricInfo) -> str:
    return "higher is better" if metric.higher_is_better else "lower is better"
