"""Pieces of HTML that the tabs share: notes, tables, pictures, jobs, progress, curves. Every text is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from PIL import Image

from skindualgen.jobs.job import Job, Stage, State

if TYPE_CHECKING:
    from skindualgen.report.page import Chart

STATE_WORDS: Mapping[State, str] = {
    "running": "Running",
    "stopping": "Stopping",
    "done": "Finished",
    "failed": "Failed",
    "stopped": "Stopped",
    "lost": "Ended without an exit code",
}
LOG_LINES = 200
"""Lines of a log on the page: its end."""
LAST_LINES = 3
"""Lines that are shown at once where a job failed."""
AXIS_GAP = 6
"""Between a chart and what is below it, in units of the chart."""


def data_uri(picture: Image.Image, kind: str = "JPEG", **options: Any) -> str:
    """A picture as a data URI; ``options`` are those of its format."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def note(text: str) -> str:
    """A quiet sentence, where there is nothing to show yet."""
    return f'<p class="sdg-note">{html.escape(text)}</p>'


def empty(text: str) -> str:
    """Shown where a tab's results will be."""
    return f'<div class="sdg-empty"><p>{html.escape(text)}</p></div>'


def progress(text: str, done: int = 0, total: int = 0) -> str:
    """A sentence with a bar under it; without a total, no bar."""
    share = 100 * done / total if total else 0
    bar = (
        f'<span class="sdg-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></span>'
        if total
        else ""
    )
    return f'<div class="sdg-progress" role="status"><span>{html.escape(text)}</span>{bar}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, numeric: Sequence[int] = ()) -> str:
    """A table that scrolls in itself where the page is narrow.

    Args:
        head: titles of the columns.
        rows: cells, HTML.
        caption: said to those who cannot see it.
        numeric: columns that are set to the right.
    """
    marks = [' class="sdg-number"' if column in numeric else "" for column in range(len(head))]
    titles = "".join(
        f'<th scope="col"{mark}>{html.escape(title)}</th>' for title, mark in zip(head, marks, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="sdg-scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table class="sdg-table"><caption class="sdg-hidden">{html.escape(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def job_view(job: Job, *, detail: str = "") -> str:
    """A job: state, what it is about, since when, progress bars, and the last words of one that failed.

    Args:
        job: the job.
        detail: HTML next to the state.
    """
    state = job.state
    about = " · ".join(html.escape(value) for value in job.about.values())
    when = f"{'since' if job.active else 'started'} {_local(job.started_utc)}"
    code = f", exit code {job.exit_code}" if state == "failed" else ""
    stages = job.stages()
    shown = [stage for stage in stages if stage.done or stage is stages[-1]]  # others had nothing to do
    bars = "".join(_bar(stage, moving=job.active) for stage in shown)
    return (
        f'<section class="sdg-job" aria-label="Job"><div class="sdg-job-head">'
        f'<span class="sdg-pill sdg-{state}">{STATE_WORDS[state]}{code}</span><b>{about}</b>'
        f'<span class="sdg-soft">{when}</span>{detail}</div>'
        f'<div class="sdg-stages">{bars}</div>{_last_words(job)}</section>'
    )


def log_view(job: Job) -> str:
    """The end of a job's log."""
    return f'<pre class="sdg-log" tabindex="0">{html.escape(_end(job.log(), LOG_LINES))}</pre>'


def _last_words(job: Job) -> str:
    """What a job that did not end well said last."""
    if job.state not in ("failed", "lost"):
        return ""
    return (
        f'<pre class="sdg-log sdg-wrong" tabindex="0">{html.escape(_end(job.log(), LAST_LINES) or "No output.")}</pre>'
    )


def _end(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _bar(stage: Stage, *, moving: bool) -> str:
    share = 100 * stage.done / stage.total if stage.total else 0
    finished = stage.total is not None and stage.done >= stage.total
    mark = "done" if finished else "moving" if moving else "halted"
    count = f"{stage.done:,} of {stage.total:,}" if stage.total is not None and stage.total > 1 else ""
    return (
        f'<div class="sdg-stage sdg-{mark}"><span>{html.escape(stage.name)}</span>'
        f'<span class="sdg-meter" role="progressbar" aria-label="{html.escape(stage.name)}" aria-valuenow="{share:.0f}"'
        f' aria-valuemin="0" aria-valuemax="100"><i style="width:{share:.1f}%"></i></span>'
        f'<span class="sdg-soft sdg-number">{count or ("done" if finished else "")}</span></div>'
    )


def _local(utc: str) -> str:
    when = datetime.fromisoformat(utc)
    recent = datetime.now(UTC) - when < timedelta(hours=12)
    return when.astimezone().strftime("%H:%M" if recent else "%d %b %Y, %H:%M")


def line_chart(chart: Chart, *, alt: str) -> str:
    """Curves over one pair of axes as SVG in the page's colours, with a legend."""
    from skindualgen.report.render import chart_geometry

    shape = chart_geometry(chart)
    width, height = shape["width"], shape["height"]
    grid = "".join(
        f'<path class="sdg-grid" d="M0 {y:.1f}H{width}"/>{_text(-8, y, 0.33, "end", tick)}'
        for y, tick in shape["y_ticks"]
    )
    below = height + AXIS_GAP
    across = "".join(_text(x, below, 0.95, "middle", tick) for x, tick in shape["x_ticks"])
    across += _text(width, below, 2.15, "end", html.escape(chart.x_label))
    lines = "".join(
        f'<polyline class="sdg-curve sdg-curve-{number}" points="{line["points"]}"/>'
        + '<circle class="sdg-dot-{}" r="3.5" cx="{}" cy="{}"/>'.format(number, *line["points"].split()[-1].split(","))
        for number, line in enumerate(shape["lines"])
    )
    legend = "".join(
        f'<span><i class="sdg-key-{number}"></i>{html.escape(line["label"])}</span>'
        for number, line in enumerate(shape["lines"])
    )
    return (
        f'<figure class="sdg-chart"><figcaption>{html.escape(chart.y_label)}<span class="sdg-legend">{legend}</span>'
        f'</figcaption><svg viewBox="-46 -8 {width + 62} {height + 44}" role="img" aria-label="{html.escape(alt)}">'
        f"{grid}{across}{lines}</svg></figure>"
    )


def _text(x: float, y: float, down_em: float, anchor: str, text: str) -> str:
    """A label in the right place, whatever size the page gives its letters."""
    return f'<text x="{x:.1f}" y="{y:.1f}" dy="{down_em}em" text-anchor="{anchor}">{text}</text>'
