"""Matplotlib figures as SVG text that takes the colours and the font of the page around it, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skindualgen.report.page import Interval

Values = NDArray[np.float64]

INK, SOFT, RULE, ACCENT, CARD = "#010001", "#010002", "#010003", "#010004", "#010005"
"""Stand-ins that :func:`figure_svg` turns into the page's own colours: text, secondary text, lines, accent, ground."""
CONTRAST = "#3f8f8a"
"""A second colour of data that differs from the accent, in light and dark and by the colour-blind."""
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", ACCENT: "var(--accent)", CARD: "var(--card)"}

WIDTH = 9.0
"""Width of a figure in inches of 72 px, about that of the page's text."""
COLUMNS = 4
"""Histograms in a row."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": RULE,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=[ACCENT, CONTRAST, SOFT]),
}
"""Everything is drawn without a ground of its own."""


def new_figure(width: float = WIDTH, height: float = 3.6) -> Figure:
    """Return an empty figure in the page's style, sizes in inches of 72 px; draw inside ``with figure_style():``."""
    with figure_style():
        return Figure(figsize=(width, height), layout="constrained")


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which axes and artists take the page's style."""
    return matplotlib.rc_context(STYLE)


def forest(panels: Mapping[str, Mapping[str, tuple[Interval | None, Interval | None]]]) -> Figure:
    """Draw a panel for each title: a line for each group, its value with its interval over the band of its reference.

    Args:
        panels: title -> group -> value and reference; without a value the line is empty.
    """
    groups = list(dict.fromkeys(group for lines in panels.values() for group in lines))
    figure = new_figure(WIDTH, 1.2 + 0.42 * len(groups))
    with figure_style():
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, (title, lines) in zip(axes, panels.items(), strict=True):
            for group, (made, real) in lines.items():
                if made is not None and made.value is not None:
                    _forest_line(panel, groups.index(group), made, real)
            panel.set_title(title, fontsize=10)
            panel.set_ylim(len(groups) - 0.4, -0.6)
            panel.set_yticks(range(len(groups)), groups)
            panel.locator_params(axis="x", nbins=3)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="x", linewidth=0.6)
    return figure


def _forest_line(panel: Any, row: int, made: Interval, real: Interval | None) -> None:
    if real is not None and real.value is not None:
        low, high = (real.value if end is None else end for end in (real.low, real.high))
        panel.plot([low, high], [row, row], color=CONTRAST, linewidth=9, alpha=0.35, solid_capstyle="butt")
        panel.plot([real.value] * 2, [row - 0.25, row + 0.25], color=CONTRAST, linewidth=2)
    if made.low is not None and made.high is not None:
        panel.plot([made.low, made.high], [row, row], color=ACCENT, linewidth=1.8)
    panel.plot([made.value], [row], "o", color=ACCENT, markersize=6)


def histograms(
    samples: Mapping[str, tuple[Values, Values]],
    *,
    bins: int = 24,
    real_is: str = "held-out real",
    cuts: Mapping[str, Sequence[float]] | None = None,
    unit: str = "",
) -> Figure:
    """Draw generated values as bars and real ones as a line, both as shares, a panel for each title.

    Args:
        samples: title -> values of generated and of real photographs; NaN is left out.
        bins: of values that are not few whole numbers.
        real_is: what the real values are called.
        cuts: title -> dashed lines.
        unit: of all values.
    """
    rows = -(-len(samples) // COLUMNS)
    figure = new_figure(WIDTH, 0.4 + 2.1 * rows)
    with figure_style():
        panels = figure.subplots(rows, min(COLUMNS, len(samples)), squeeze=False).ravel()
        for panel, (title, (generated, real)) in zip(panels, samples.items(), strict=False):
            lines = (cuts or {}).get(title, ())
            made, there = (values[np.isfinite(values)] for values in (generated, real))
            _histogram(panel, made, there, np.array(lines, float), bins, real_is)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel(unit)
        for panel in panels[len(samples) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=9)
    return figure


def _histogram(panel: Any, generated: Values, real: Values, cuts: Values, bins: int, real_is: str) -> None:
    together = np.concatenate([generated, real, cuts])
    if not together.size:
        return
    whole = bool((together == np.rint(together)).all()) and np.ptp(together) < bins
    edges = np.arange(together.min() - 0.5, together.max() + 1) if whole else np.histogram_bin_edges(together, bins)
    for sample, style in (
        (generated, {"histtype": "stepfilled", "color": ACCENT, "alpha": 0.5, "label": "generated"}),
        (real, {"histtype": "step", "color": CONTRAST, "linewidth": 1.8, "label": real_is}),
    ):
        if sample.size:
            panel.hist(sample, edges, weights=np.full(sample.size, 1 / sample.size), **style)
    for position, cut in enumerate(cuts):
        panel.axvline(cut, color=SOFT, linewidth=1.2, linestyle="--", label="threshold" if not position else None)
    if whole and not cuts.size:
        ticks = np.arange(together.min(), together.max() + 1)
        panel.set_xticks(ticks, ["no", "yes"] if ticks.tolist() == [0, 1] else None)
    else:
        panel.locator_params(axis="x", nbins=4)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def figure_svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``<svg>`` element for the page; it scales to the width it is given.

    Args:
        figure: of :func:`new_figure`.
        name: unique in the page; keeps the ids of two drawings apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1inherit", svg)
    return re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # names of groups, the same in every figure
