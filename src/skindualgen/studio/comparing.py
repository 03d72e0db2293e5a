"""Finished evaluations: read, and two of them side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from skindualgen.contracts import InputError
from skindualgen.evaluation.results import SECTIONS, EvaluationReport
from skindualgen.metrics.measures import Measure
from skindualgen.studio.pieces import table
from skindualgen.studio.workspace import REPORT_FILE, Workspace

PAGE_FILE = "report.html"
MAX_REPORT_BYTES = 64 << 20
NONE = "–"
BETTER = {"as the reference": "as real"}
LEGEND = (
    "Under each number its 95 % interval. Where two are apart, the difference is more than chance; where they overlap, "
    "it may be chance, or too small for these numbers of pairs. Real: what real photographs reach."
)
SIGNIFICANT = 3
"""Digits of a number without an interval."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:"
"""A report is self-contained, and may load nothing."""


def read_report(workspace: Workspace, name: str) -> EvaluationReport:
    """Read ``report.json`` of a finished evaluation.

    Raises:
        InputError: not there, outside the workspace, too large, or not such a report.
    """
    path = _file(workspace, name, REPORT_FILE)
    try:
        return EvaluationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        got = f"{name}/{REPORT_FILE}, which is no evaluation of this version ({type(error).__name__})"
        raise InputError(got, "what `skindualgen evaluate` writes", "run the evaluation again") from None


def report_frame(workspace: Workspace, name: str) -> str:
    """``report.html`` in a frame that may run its own scripts and do nothing else.

    Raises:
        InputError: not there, outside the workspace, or too large.
    """
    path = _file(workspace, name, PAGE_FILE)
    page = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}">' + path.read_text("utf-8")
    return (
        f'<iframe class="sdg-report" sandbox="allow-scripts" title="Report {html.escape(name)}"'
        f' srcdoc="{html.escape(page)}"></iframe>'
    )


def _file(workspace: Workspace, name: str, file: str) -> Path:
    path = workspace.path(f"{name}/{file}")
    if not path.is_file() or path.stat().st_size > MAX_REPORT_BYTES:
        got = f"{name}/{file}, which is no file of at most {MAX_REPORT_BYTES >> 20} MiB"
        raise InputError(got, "a finished evaluation", "choose another")
    return path


@dataclass(frozen=True)
class Row:
    """One measure of two evaluations.

    Attributes:
        section: of the report.
        first, second: the measure in each; None where one lacks it.
    """

    section: str
    first: Measure | None
    second: Measure | None

    @property
    def apart(self) -> bool | None:
        """Whether the intervals do not overlap; None where one of them is not known."""
        ends = [each for each in (_interval(self.first), _interval(self.second)) if each is not None]
        if len(ends) < 2:
            return None
        return ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]

    @property
    def difference(self) -> float | None:
        """Second minus first, where both have an interval."""
        if self.apart is None or self.first is None or self.second is None:
            return None
        return float(self.second.value or 0) - float(self.first.value or 0)


def rows_of(first: EvaluationReport, second: EvaluationReport) -> Iterator[Row]:
    """The measures of two reports, those of the same key in one row."""
    for name in SECTIONS:
        of_first = {measure.key: measure for measure in first.section(name).measures}
        of_second = {measure.key: measure for measure in second.section(name).measures}
        for key in dict.fromkeys([*of_first, *of_second]):
            yield Row(name.replace("_", " "), of_first.get(key), of_second.get(key))


def cautions(first: EvaluationReport, second: EvaluationReport) -> list[str]:
    """Why numbers of two reports may not be set against each other."""
    found = []
    if first.real.manifest_sha256 != second.real.manifest_sha256 or first.run.held_out != second.run.held_out:
        found.append("They were compared with different real photographs.")
    if first.run.size_px != second.run.size_px:
        found.append(f"They were compared at {first.run.size_px} and at {second.run.size_px} px.")
    if first.run.n_generated != second.run.n_generated:
        found.append(
            f"{first.run.n_generated:,} and {second.run.n_generated:,} generated pairs: "
            "distances between sets depend on their size."
        )
    if first.run.extractors != second.run.extractors or first.run.judge_recipes != second.run.judge_recipes:
        found.append("They were judged by different networks.")
    return found


def comparison_html(first: EvaluationReport, second: EvaluationReport, names: tuple[str, str]) -> str:
    """Two evaluations as a table a section, with their intervals, and a difference where both are known."""
    notes = "".join(f'<p class="sdg-caution">{html.escape(text)}</p>' for text in cautions(first, second))
    definitions = {**second.definitions, **first.definitions}
    found: dict[str, list[list[str]]] = {}
    for row in rows_of(first, second):
        measure = row.first or row.second
        if measure is None or all(each is None or each.value is None for each in (row.first, row.second)):
            continue
        definition = definitions[measure.name]
        unit = f", {definition.unit}" if definition.unit else ""
        group = f" <small>{html.escape(measure.group.replace('_', ' '))}</small>" if measure.group else ""
        judge = f" <small>{html.escape(measure.judge)}</small>" if "@" in measure.key and measure.judge else ""
        title = (
            f'<span title="{html.escape(definition.text)}">{html.escape(definition.title + unit)}</span>{group}{judge}'
        )
        cells = [_cell(row.first), _cell(row.second), _difference(row), _verdict(row)]
        cells += [_reference(measure), BETTER.get(definition.better, definition.better)]
        found.setdefault(row.section, []).append([title, *cells])
    heads = ["Measure", *names, "Difference", "Intervals", "Real", "Better"]
    tables = "".join(
        f"<h3>{html.escape(section.capitalize())}</h3>{table(heads, rows, caption=section, numeric=(1, 2, 3, 5))}"
        for section, rows in found.items()
    )
    return f'<div class="sdg-comparison">{notes}<p class="sdg-lead">{LEGEND}</p>{tables}</div>'


def digits_of(half_width: float) -> int:
    """Digits after the point that an interval's half width gives meaning to: its first two."""
    return max(0, min(6, 1 - math.floor(math.log10(half_width)))) if half_width > 0 else SIGNIFICANT


def _interval(measure: Measure | None) -> tuple[float, float] | None:
    if measure is None or measure.value is None or measure.low is None or measure.high is None:
        return None
    return measure.low, measure.high


def _cell(measure: Measure | None) -> str:
    if measure is None or measure.value is None:
        why = html.escape(measure.caveat or "") if measure is not None else "not in this report"
        return f'<span title="{why}">{NONE}</span>'
    ends = _interval(measure)
    if ends is None:
        return _number(measure)
    low, high = (f"{end:,.{_digits(ends)}f}" for end in ends)
    return f"{_number(measure)}<small>{low} to {high}</small>"


def _number(measure: Measure) -> str:
    ends, value = _interval(measure), float(measure.value or 0)
    return f"{value:.{SIGNIFICANT}g}" if ends is None else f"{value:,.{_digits(ends)}f}"


def _digits(ends: tuple[float, float]) -> int:
    return digits_of((ends[1] - ends[0]) / 2)


def _reference(measure: Measure) -> str:
    reference = measure.reference
    if reference is None or reference.value is None:
        return NONE
    shown = measure.model_copy(update={"value": reference.value, "low": reference.low, "high": reference.high})
    return f'<span title="{html.escape(reference.kind)}">{_number(shown)}</span>'


def _difference(row: Row) -> str:
    ends = [_interval(row.first), _interval(row.second)]
    if row.difference is None or ends[0] is None or ends[1] is None:
        return NONE
    half_width = math.hypot(*((high - low) / 2 for low, high in (ends[0], ends[1])))
    return f"{row.difference:+,.{digits_of(half_width)}f}".replace("-", "\N{MINUS SIGN}")


def _verdict(row: Row) -> str:
    if row.apart is None:
        return NONE
    return "<b>apart</b>" if row.apart else "overlap"
