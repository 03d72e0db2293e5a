"""Matplotlib figures as SVG text that takes the colours and the font of the page around it, light or dark."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

INK, SOFT, RULE, ACCENT, CARD = "#010001", "#010002", "#010003", "#010004", "#010005"
"""Stand-ins that :func:`figure_svg` turns into the page's own colours: text, secondary text, lines, accent, ground."""
CONTRAST = "#3f8f8a"
"""A second colour of data that can be told from the accent, in light and dark and by the colour-blind."""
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", ACCENT: "var(--accent)", CARD: "var(--card)"}

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


def new_figure(width: float = 9.0, height: float = 3.6) -> Figure:
    """Return an empty figure in the page's style, sizes in inches of 72 px; draw inside ``with figure_style():``."""
    with figure_style():
        return Figure(figsize=(width, height), layout="constrained")


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which axes and artists take the page's style."""
    return matplotlib.rc_context(STYLE)


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
