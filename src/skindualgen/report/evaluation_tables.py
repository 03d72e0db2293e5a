"""Measures as tables: a row for each part of the sets, and under it what real photographs reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skindualgen.evaluation.definitions import SHAPES
from skindualgen.evaluation.results import ConditionOutcome, Definition
from skindualgen.metrics.mask_tables import DISTANCE, SHIFT
from skindualgen.metrics.measures import Measure
from skindualgen.report.page import Cell, Column, Table, cell

DIGITS: Mapping[str, int] = {
    "kid": 4,
    "kid_against_train": 4,
    "frechet": 1,
    "frechet_against_train": 1,
    "agreement_hd95_px": 1,
    "agreement_dice": 3,
    "agreement_iou": 3,
    "agreement_boundary_f": 3,
    "agreement_gap": 3,
    "ita_mean": 1,
    "ita_distance": 1,
    "near_copy_rate": 3,
    "duplicate_rate": 3,
}
"""Digits after the point where they are not two."""

REFERENCE_LABEL = "– real"


def found(measures: Sequence[Measure], name: str) -> list[Measure]:
    """Return the measures of this name, in their order."""
    return [measure for measure in measures if measure.name == name]


def number(value: float | None, digits: int = 2) -> str:
    """Write a number, a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def groups_table(
    measures: Sequence[Measure], names: Sequence[str], definitions: Mapping[str, Definition], title: str
) -> Table:
    """Return a table with a column for each name; each group has a row and, under it, that of its references."""
    shown = [measure for measure in measures if measure.name in names]
    present = [name for name in names if found(shown, name)]
    columns = [Column(_head(definitions[name]), name, digits=DIGITS.get(name, 2)) for name in present]
    rows: list[tuple[str, list[Cell]]] = []
    for group in dict.fromkeys(measure.group for measure in shown):
        of_group = {measure.name: measure for measure in shown if measure.group == group}
        everyone, pairs = list(of_group.values()), [_both(of_group.get(name)) for name in present]
        rows.append((group or "all", [_sizes(everyone, generated=True), *(made for made, _ in pairs)]))
        rows.append((REFERENCE_LABEL, [_sizes(everyone, generated=False), *(real for _, real in pairs)]))
    kinds = list(dict.fromkeys(each.reference.kind for each in shown if each.reference is not None))
    return Table("Group", [Column("n"), *columns], rows, f"{title}: generated, and under it {' or '.join(kinds)}")


def measures_table(measures: Sequence[Measure], definitions: Mapping[str, Definition], title: str) -> Table:
    """Return a row for each measure: generated, what real photographs reach, and both numbers of photographs."""
    rows: list[tuple[str, list[Cell]]] = []
    terms = {}
    for measure in measures:
        label = _head(definitions[measure.name], title=True) + (f", {measure.group}" if measure.group else "")
        terms[label] = measure.name
        made, real = _both(measure)
        kind = measure.reference.kind if measure.reference is not None else "–"
        sizes = [_sizes([measure], generated=generated) for generated in (True, False)]
        rows.append((label, [made, real, kind, " / ".join(sizes)]))
    columns = [Column("Generated", digits=3), Column("Real", digits=3), Column("What real is"), Column("n")]
    return Table("Measure", columns, rows, title, terms)


def _head(definition: Definition, *, title: bool = False) -> str:
    name = definition.title if title else definition.short
    return f"{name}, {definition.unit}" if definition.unit else name


def _sizes(measures: Sequence[Measure], *, generated: bool) -> str:
    sizes = [each.n_generated if generated else each.n_real for each in measures]
    counts = sorted({size for size in sizes if size is not None})
    return "–".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "–"


def shapes_table(measures: Sequence[Measure], definitions: Mapping[str, Definition]) -> Table:
    """Return a row for each shape statistic: both means, and both distances next to real against real."""
    by_key = {measure.key: measure for measure in measures}
    columns = [
        Column("Generated, mean"),
        Column("Held-out real, mean"),
        Column("Distance (KS)"),
        Column("Real against real"),
        Column("Shift (SD)"),
        Column("Real against real"),
    ]
    rows: list[tuple[str, list[Cell]]] = []
    terms = {}
    for name in SHAPES:
        if name not in by_key:
            continue
        title = definitions[name].title
        terms[title] = name
        pairs = [_both(by_key.get(key)) for key in (name, name + DISTANCE, name + SHIFT)]
        rows.append((title, [value for pair in pairs for value in pair]))
    return Table("Shape", columns, rows, "Shapes of masks", terms)


def _both(measure: Measure | None) -> tuple[Cell, Cell]:
    """A measure and its reference."""
    if measure is None or measure.reference is None:
        return cell(None), cell(None)
    return cell(measure), cell(measure.reference)


def caveats_of(measures: Sequence[Measure], definitions: Mapping[str, Definition]) -> list[str]:
    """Return what the measures' own caveats say, in two lines: where there is no number, and where it is uncertain.

    The full reason of each is in ``report.json``.
    """
    lines = []
    for missing, said in (
        (True, "No number, as there are too few photographs"),
        (False, "Uncertain, for few photographs"),
    ):
        about: dict[str | None, list[str]] = {}
        for measure in measures:
            if measure.caveat is not None and (measure.value is None) is missing:
                about.setdefault(measure.group, []).append(definitions[measure.name].short)
        same: dict[str, list[str]] = {}
        for group, titles in about.items():
            same.setdefault(", ".join(dict.fromkeys(titles)), []).append(group or "all")
        where = [f"{titles} ({', '.join(groups)})" for titles, groups in same.items()]
        if where:
            lines.append(f"{said}: {'; '.join(where)}.")
    return lines


def conditions_table(outcomes: Sequence[ConditionOutcome]) -> Table:
    """Return a row for each condition of ``--fail-if``."""
    rows: list[tuple[str, list[Cell]]] = [
        ("failed" if outcome.failed else "kept", [outcome.condition, outcome.reason]) for outcome in outcomes
    ]
    return Table("Outcome", [Column("Fails if"), Column("Measured")], rows)
