"""The figures of a gate's report: where scores lie and where they are cut, and what the gate does to variety."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skindualgen.evaluation.evidence import Distribution
from skindualgen.gate.diversity import DiversityRow
from skindualgen.gate.rules import Rule
from skindualgen.report.figures import ACCENT, CONTRAST, SOFT, figure_style, new_figure

BINS = 28
COLUMNS = 4
WIDTH = 9.0
"""Width of a figure in inches of 72 px, about that of the page's text."""


def score_histograms(
    distributions: Mapping[str, Distribution], rules: Mapping[str, Rule], titles: Mapping[str, str]
) -> Figure:
    """Draw generated scores as bars and real ones as a line, both as shares; dashed where pairs are refused."""
    rows = -(-len(distributions) // COLUMNS)
    figure = new_figure(WIDTH, 0.4 + 2.1 * rows)
    with figure_style():
        panels = figure.subplots(rows, min(COLUMNS, len(distributions)), squeeze=False).ravel()
        for panel, (name, values) in zip(panels, distributions.items(), strict=False):
            _histogram(panel, values, rules[name])
            panel.set_title(titles[name], fontsize=10)
        for panel in panels[len(distributions) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=9)
    return figure


def _histogram(panel: Any, values: Distribution, rule: Rule) -> None:
    cuts = [cut for cut in (rule.threshold, *rule.of_diagnosis.values()) if cut is not None]
    together = np.concatenate([values.generated, values.real, cuts])
    edges = np.histogram_bin_edges(together, BINS)
    for sample, style in (
        (values.generated, {"histtype": "stepfilled", "color": ACCENT, "alpha": 0.5, "label": "generated"}),
        (values.real, {"histtype": "step", "color": CONTRAST, "linewidth": 1.8, "label": values.real_is}),
    ):
        if sample.size:
            panel.hist(sample, edges, weights=np.full(sample.size, 1 / sample.size), **style)
    for position, cut in enumerate(cuts):
        panel.axvline(cut, color=SOFT, linewidth=1.2, linestyle="--", label="threshold" if not position else None)
    panel.locator_params(axis="x", nbins=4)
    panel.tick_params(axis="x", labelsize=9)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def before_and_after(rows: Sequence[DiversityRow], titles: Mapping[str, str]) -> Figure:
    """Draw a panel for each measure: a line for each group, accepted pairs as dots, as many random ones as bands."""
    groups = list(dict.fromkeys(row.group for row in rows))
    names = list(dict.fromkeys(row.measure for row in rows))
    figure = new_figure(WIDTH, 1.2 + 0.42 * len(groups))
    with figure_style():
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            for row in (row for row in rows if row.measure == name and row.after is not None):
                _line(panel, groups.index(row.group), row)
            panel.set_title(titles[name], fontsize=10)
            panel.set_ylim(len(groups) - 0.4, -0.6)
            panel.set_yticks(range(len(groups)), groups)
            panel.locator_params(axis="x", nbins=3)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="x", linewidth=0.6)
    return figure


def _line(panel: Any, position: int, row: DiversityRow) -> None:
    band = [row.before_low, row.before_high]
    panel.plot(band, [position] * 2, color=CONTRAST, linewidth=9, alpha=0.35, solid_capstyle="butt")
    panel.plot([row.before] * 2, [position - 0.25, position + 0.25], color=CONTRAST, linewidth=2)
    panel.plot([row.after_low, row.after_high], [position] * 2, color=ACCENT, linewidth=1.8)
    panel.plot([row.after], [position], "o", color=ACCENT, markersize=6)
