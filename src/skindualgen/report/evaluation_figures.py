"""The figures of an evaluation: what generated and real photographs have in common, drawn in the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skindualgen.evaluation.evidence import Distribution, FeatureMap
from skindualgen.evaluation.results import Confusion, Definition
from skindualgen.metrics.measures import Measure
from skindualgen.report.figures import ACCENT, CARD, CONTRAST, INK, RULE, WIDTH, figure_style, forest, new_figure
from skindualgen.report.page import Interval


def measures_forest(measures: Sequence[Measure], names: Sequence[str], definitions: Mapping[str, Definition]) -> Figure:
    """Draw a panel for each measure: a line for each group, its interval, and the band that real photographs reach."""
    panels: dict[str, dict[str, tuple[Interval | None, Interval | None]]] = {}
    groups = [group or "all" for group in dict.fromkeys(each.group for each in measures if each.name in names)]
    for name in names:
        found = {each.group or "all": (each, each.reference) for each in measures if each.name == name}
        panels[definitions[name].short] = {group: found.get(group, (None, None)) for group in groups}
    return forest(panels)


def cumulative(values: Distribution, x_label: str, threshold: float) -> Figure:
    """Draw the share of photographs at or below each distance, generated and real, and the near-copy threshold."""
    figure = new_figure(WIDTH / 2, 2.9)
    with figure_style():
        panel = figure.subplots()
        for sample, colour, label in (
            (values.generated, ACCENT, "generated"),
            (values.real, CONTRAST, "held-out real"),
        ):
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
    """Draw one matrix per table: counts, shaded by their share of the row."""
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
        ink = CARD if value > 0.6 else INK
        panel.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=ink)
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
