"""A report as one self-contained HTML file.

Nothing is loaded from elsewhere: pictures are in the file as base64, outlines are vector paths over them.
"""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from skindualgen.contracts import InputError
from skindualgen.data.masks import lesion_pixels
from skindualgen.files import atomic_write_text
from skindualgen.metrics.intervals import Estimate
from skindualgen.report.page import Chart, Outline, Report

LONGEST_SIDE_PX = 512
"""Larger pictures are reduced to this side inside the report, to keep the file small."""

OUTLINE_SIGMA = 0.004
"""Smoothing of a mask before its outline is drawn, as a share of the longer side (half a pixel at 128): hides the
pixel stairs and moves no outline visibly. Scores are computed elsewhere, on the mask itself."""

CHART_WIDTH, CHART_HEIGHT = 640.0, 220.0
"""Inner size of a curve's drawing area in SVG units."""


def write_report(report: Report, path: Path) -> None:
    """Render ``report`` into one HTML file, entirely or not at all.

    Raises:
        InputError: a term is used and not defined, an outline has another aspect than its picture, a curve is empty
            or not finite.
    """
    atomic_write_text(path, render(report))


def render(report: Report) -> str:
    """Return the report as HTML; raises as :func:`write_report`."""
    _refuse_undefined_terms(report)
    environment = Environment(
        loader=PackageLoader("skindualgen", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        picture=picture_data, outline=outline_path, number=_number, share=_share, chart=chart_geometry
    )
    environment.tests.update(estimate=lambda cell: isinstance(cell, Estimate))
    return environment.get_template("report.html.j2").render(report=report)


def _refuse_undefined_terms(report: Report) -> None:
    used = {headline.term for headline in report.headlines}
    for section in report.sections:
        used |= {column.term for table in section.tables for column in table.columns}
        used |= {term for table in section.tables for term in table.terms.values()}
        used |= {plot.term for plot in section.plots}
    missing = sorted(used - {""} - set(report.definitions))
    if missing:
        raise InputError(f"terms without a definition: {missing}", "one in `definitions` for each", "define them")


def picture_data(image: Image.Image) -> dict[str, Any]:
    """Return ``uri`` (data URI), ``width`` and ``height`` in px of a picture, reduced to :data:`LONGEST_SIDE_PX`.

    Small pictures are PNG, so that no pixel changes; reduced ones are JPEG.
    """
    if max(image.size) > LONGEST_SIDE_PX:
        reduced = image.convert("RGB")
        reduced.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
        return _encoded(reduced, "JPEG", quality=90)
    return _encoded(image, "PNG", optimize=True)


def _encoded(image: Image.Image, kind: str, **options: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    uri = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return {"uri": uri, "width": image.width, "height": image.height}


def outline_path(outline: Outline, width: int, height: int) -> str:
    """Return the mask's outline as the ``d`` of an SVG path in a box of ``width`` x ``height``.

    The lesion is where the mask is 128 or more; without any, the path is empty. A lesion cut by the picture's edge is
    closed along the edge.

    Raises:
        InputError: the mask's aspect is not that of the box (more than 2 % apart).
    """
    mask = lesion_pixels(outline.mask)  # [h, w]
    rows, columns = mask.shape
    if abs(math.log((columns / rows) / (width / height))) > 0.02:
        got = f"a mask of {columns} x {rows} over a picture of {width} x {height}"
        raise InputError(got, "the same aspect", "pass the mask that belongs to the picture")
    smooth = gaussian_filter(mask.astype(np.float64), OUTLINE_SIGMA * max(mask.shape), mode="nearest")
    parts = []
    for line in find_contours(np.pad(smooth, 1), 0.5):
        # find_contours counts from pixel centres; after the padding, pixel edges are half a pixel before them.
        y = np.clip((line[:, 0] - 0.5) * height / rows, 0, height)
        x = np.clip((line[:, 1] - 0.5) * width / columns, 0, width)
        parts.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z")
    return "".join(parts)


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no "-0.00"


def _share(value: float | Estimate, best: float) -> float:
    """Return the length of a bar in percent, [0, 100]; NaN has none."""
    value = value.value if isinstance(value, Estimate) else value
    return 0.0 if math.isnan(value) else float(np.clip(100 * value / best, 0, 100))


def chart_geometry(chart: Chart) -> dict[str, Any]:
    """Return polylines and axis ticks of a chart in its drawing area.

    Raises:
        InputError: no curve, an empty one, or a value that is not finite.
    """
    steps = [float(step) for curve in chart.curves for step in curve.steps]
    values = [float(value) for curve in chart.curves for value in curve.values]
    if (
        not steps
        or not np.isfinite(steps + values).all()
        or any(not len(c.steps) == len(c.values) for c in chart.curves)
    ):
        raise InputError(
            f"curves for {chart.y_label!r} that are empty, ragged or not finite", "finite numbers", "fix them"
        )
    x_ticks, y_ticks = nice_ticks(min(steps), max(steps)), nice_ticks(min(values), max(values))
    x_low, x_high = min(steps), max(max(steps), min(steps) + 1e-9)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def across(step: float) -> float:
        return (step - x_low) / (x_high - x_low) * CHART_WIDTH

    def down(value: float) -> float:
        return (1 - (value - y_low) / (y_high - y_low)) * CHART_HEIGHT

    lines = []
    for curve in chart.curves:
        points = " ".join(f"{across(s):.1f},{down(v):.1f}" for s, v in zip(curve.steps, curve.values, strict=True))
        lines.append({"label": curve.label, "points": points, "emphasis": curve.emphasis})
    return {
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "lines": lines,
        "x_ticks": [(across(tick), f"{tick:g}") for tick in x_ticks if x_low <= tick <= x_high],
        "y_ticks": [(down(tick), f"{tick:g}") for tick in y_ticks],
    }


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round numbers, at least two, that enclose [low, high] in about ``wanted`` steps of 1, 2 or 5 x 10^n."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
