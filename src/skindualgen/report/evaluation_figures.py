"""The figures of an evaluation: what generated and real photographs have in common, drawn in the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skindualgen.evaluation.evidence import Distribution, FeatureMap
from skindualgen.evaluation.results import Confusion, Definition, Measure
from skindualgen.report.figures import ACCENT, CARD, CONTRAST, INK, RULE, figure_style, new_figure

BINS = 24
WIDTH = 9.0
"""Width of a figure in inches of 72 px, about that of the page's text."""


def forest(measures: Sequence[Measure], names: Sequence[str], definitions: Mapping[str, Definition]) -> Figure:
    """Draw a panel for each measure: a line for each group, its interval, and the band that real photographs reach."""
    groups = list(dict.fromkeys(measure.group for measure in measures if measure.name in names))
    figure = new_figure(WIDTH, 1.2 + 0.42 * len(groups))
    with figure_style():
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            for row, group in enumerate(groups):
                found = next((m for m in measures if m.name == name and m.group == group), None)
                if found is not None and found.value is not None:
                    _forest_line(panel, row, found)
            panel.set_title(definitions[name].short, fontsize=10)
            panel.set_ylim(len(groups) - 0.4, -0.6)
            panel.set_yticks(range(len(groups)), [group or "all" for group in groups])
            panel.locator_params(axis="x", nbins=3)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="x", linewidth=0.6)
    return figure


def _forest_line(panel: Any, row: int, measure: Measure) -> None:
    reference = measure.reference
    if reference is not None and reference.value is not None:
        low = reference.value if reference.low is None else reference.low
        high = reference.value if reference.high is None else reference.high
        panel.plot([low, high], [row, row], color=CONTRAST, linewidth=9, alpha=0.35, solid_capstyle="butt")
        panel.plot([reference.value] * 2, [row - 0.25, row + 0.25], color=CONTRAST, linewidth=2)
    if measure.low is not None and measure.high is not None:
        panel.plot([measure.low, measure.high], [row, row], color=ACCENT, linewidth=1.8)
    panel.plot([measure.value], [row], "o", color=ACCENT, markersize=6)


def histograms(distributions: Mapping[str, Distribution], titles: Mapping[str, str], *, columns: int = 4) -> Figure:
    """Draw generated values as bars and real ones as a line, both as shares, a panel for each distribution."""
    rows = -(-len(distributions) // columns)
    figure = new_figure(WIDTH, 0.4 + 2.1 * rows)
    with figure_style():
        panels = figure.subplots(rows, min(columns, len(distributions)), squeeze=False).ravel()
        for panel, (name, values) in zip(panels, distributions.items(), strict=False):
            _histogram(panel, values)
            panel.set_title(titles[name], fontsize=10)
            panel.set_xlabel(values.unit)
        for panel in panels[len(distributions) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    return figure


def _histogram(panel: Any, values: Distribution) -> None:
    generated, real = (sample[np.isfinite(sample)] for sample in (values.generated, values.real))
    together = np.concatenate([generated, real])
    if not together.size:
        return
    whole = bool((together == np.rint(together)).all()) and np.ptp(together) < BINS
    edges = np.arange(together.min() - 0.5, together.max() + 1) if whole else np.histogram_bin_edges(together, BINS)
    for sample, style in (
        (generated, {"histtype": "stepfilled", "color": ACCENT, "alpha": 0.5, "label": "generated"}),
        (real, {"histtype": "step", "color": CONTRAST, "linewidth": 1.8, "label": values.real_is}),
    ):
        if sample.size:
            panel.hist(sample, edges, weights=np.full(sample.size, 1 / sample.size), **style)
    if whole:
        ticks = np.arange(together.min(), together.max() + 1)
        panel.set_xticks(ticks, ["no", "yes"] if ticks.tolist() == [0, 1] else None)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def cumulative(values: Distribution, x_label: str, threshold: float) -> Figure:
    """Draw the share of photographs at or below each distance, generated and real, and the near-copy threshold."""
    figure = new_figure(WIDTH / 2, 2.9)
    with figure_style():
        panel = figure.subplots()
        for sample, colour, label in ((values.generated, ACCENT, "generated"), (values.real, CONTRAST, values.real_is)):
            panel.ecdf(sample, color=colour, linewidth=2, label=label)
        together = np.concatenate([values.generated, values.real, [threshold]])
        left = together.min() - 0.05 * np.ptp(together)
        panel.axvspan(left, threshold, color=ACCENT, alpha=0.12, linewidth=0, label="near-copies")
        panel.set_xlim(left, together.max() + 0.02 * np.ptp(together))
        panel.set_xlabel(x_label)
        panel.set_ylabel("share of photographs")
        panel.set_ylim(0, 1.02)
        panel.grid(linewidth=0.6)
        panel.legend(loc="best", fontsize=9)
    return figure


def confusion_matrices(tables: Mapping[str, Confusion], row_labels: Mapping[str, str]) -> Figure:
    """Draw one matrix a table: counts, shaded by their share of the row."""
    figure = new_figure(WIDTH, 1.1 + 0.62 * max(len(table.classes) for table in tables.values()))
    with figure_style():
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for panel, (title, table) in zip(panels, tables.items(), strict=True):
            _confusion(panel, table)
            panel.set_title(title)
            panel.set_ylabel(row_labels[title])
            panel.set_xlabel("read by the classifier")
    return figure


def _confusion(panel: Any, table: Confusion) -> None:
    counts = np.array(table.counts, float)
    totals = counts.sum(1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    for (row, column), value in np.ndenumerate(share):
        panel.fill_between(
            [column - 0.48, column + 0.48], row - 0.48, row + 0.48, color=ACCENT, alpha=0.85 * value, lw=0
        )
        panel.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center",
                   color=CARD if value > 0.6 else INK)  # fmt: skip
    labels = [name.replace(" ", "\n", 1) for name in table.classes]
    panel.set_xticks(range(len(labels)), labels, fontsize=8)
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.set_xlim(-0.5, len(labels) - 0.5)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def feature_map(points: FeatureMap) -> Figure:
    """Draw real and generated photographs, side by side, as points in the plane in which real ones vary most."""
    figure = new_figure(WIDTH, 3.6)
    with figure_style():
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for panel, title, sample, other, colour in (
            (panels[0], "held-out real", points.held_out, points.generated, CONTRAST),
            (panels[1], "generated", points.generated, points.held_out, ACCENT),
        ):
            panel.scatter(other[:, 0], other[:, 1], s=6, color=RULE, linewidths=0)
            panel.scatter(sample[:, 0], sample[:, 1], s=14, color=colour, alpha=0.7, linewidths=0)
            panel.set_title(title)
            panel.set_xticks([])
            panel.set_yticks([])
            for spine in panel.spines.values():
                spine.set_visible(True)
    return figure
