"""The figures of a benchmark: differences of all arms as a forest, and scores over the share of generated pairs."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from skindualgen.benchmarking.results import MetricInfo, Reference, RegimeResult, TaskResult
from skindualgen.benchmarking.statistics import Difference
from skindualgen.metrics.intervals import Estimate
from skindualgen.report.figures import ACCENT, CONTRAST, INK, RULE, SOFT, WIDTH, figure_style, new_figure

"""Width of a figure in inches of 72 px, about that of the page's text."""
LINES = (ACCENT, CONTRAST, INK, SOFT)
"""Colours of the lines, by rising number of real pairs."""
NO_SYNTHETIC = 0.0
"""Place of the arm with augmentation alone on the axis of ratios."""


def forest(regime: RegimeResult, metric: MetricInfo) -> Figure | None:
    """Draw every arm's difference to real and to the best arm without generated pairs, with 95 % intervals.

    A reference that was not among the arms has no panel; without any panel there is no figure.
    """
    titles = _forest_panels(regime, metric)
    if not titles:
        return None
    figure = new_figure(WIDTH, 1.3 + 0.3 * len(regime.arms))
    with figure_style():
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        for panel, (reference, title) in zip(panels, titles.items(), strict=True):
            for row, arm in enumerate(regime.arms):
                difference = arm.differences.get(reference, {}).get(metric.name)
                if difference is not None and not math.isnan(difference.value):
                    _interval(panel, difference, row, ACCENT if arm.uses_synthetic else CONTRAST)
            panel.axvline(0, color=INK, linewidth=0.8)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel(f"difference in {metric.heading} ({_better(metric)})")
            panel.set_yticks(range(len(regime.arms)), [arm.title for arm in regime.arms])
            panel.set_ylim(len(regime.arms) - 0.4, -0.6)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="x", linewidth=0.6)
    return figure


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


def dose_response(task: TaskResult, metric: MetricInfo) -> Figure | None:
    """Draw the score over the number of generated pairs for each real one, a line for each amount of real pairs.

    0 is the arm with classical augmentation alone. Without a hybrid arm there is no figure.
    """
    if not any(arm.is_hybrid for regime in task.regimes for arm in regime.arms):
        return None
    curves = [(regime, curve) for regime in task.regimes if (curve := _dose_curve(regime, metric))]
    ratios = sorted({ratio for _, curve in curves for ratio in curve})
    figure = new_figure(WIDTH, 3.4)
    with figure_style():
        panel = figure.subplots()
        for index, (regime, curve) in enumerate(curves):
            colour = LINES[index % len(LINES)]
            shift = 0.06 * (index - (len(curves) - 1) / 2)
            places = [ratios.index(ratio) + shift for ratio in curve]
            values = [score.value for score in curve.values()]
            label = f"{regime.real_pairs} real pairs"
            panel.plot(places, values, "o-", color=colour, linewidth=1.6, markersize=5.5, label=label)
            for place, score in zip(places, curve.values(), strict=True):
                _whisker(panel, place, score, colour)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(curves), borderaxespad=0)
        panel.set_xticks(range(len(ratios)), [f"{ratio:g}" if ratio else "0: augmentation" for ratio in ratios])
        panel.set_xlim(-0.4, len(ratios) - 0.4)
        panel.set_xlabel("generated pairs for each real one")
        panel.set_ylabel(f"{metric.heading} ({_better(metric)})")
        panel.grid(axis="y", linewidth=0.6, color=RULE)
    return figure


def _dose_curve(regime: RegimeResult, metric: MetricInfo) -> dict[float, Estimate]:
    """Return ratio -> defined score, by rising ratio."""
    found = {arm.ratio: arm.scores[metric.name] for arm in regime.arms if arm.is_hybrid and arm.ratio is not None}
    augment = regime.arm("augment")
    if augment is not None:
        found[NO_SYNTHETIC] = augment.scores[metric.name]
    return {ratio: found[ratio] for ratio in sorted(found) if not math.isnan(found[ratio].value)}


def _interval(panel: Any, difference: Difference, row: int, colour: str) -> None:
    if not math.isnan(difference.low):
        panel.plot([difference.low, difference.high], [row, row], color=colour, linewidth=1.8)
    marker, face = ("o", colour) if difference.excludes_zero else ("D", "none")
    panel.plot([difference.value], [row], marker, color=colour, markersize=5.5, markerfacecolor=face)


def _whisker(panel: Any, place: float, score: Estimate, colour: str) -> None:
    if not math.isnan(score.low):
        panel.plot([place, place], [score.low, score.high], color=colour, linewidth=1.2)


def _better(metric: MetricInfo) -> str:
    return "higher is better" if metric.higher_is_better else "lower is better"
