"""The chapters of a gate's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from skindualgen.evaluation.definitions import DEFINITIONS
from skindualgen.gate.application import Application, open_pair
from skindualgen.gate.gate import Share, Verdict
from skindualgen.gate.results import GateReport, refused_by, score_values
from skindualgen.gate.scores import LESION_AREA
from skindualgen.judges.feature_space import DRAWS
from skindualgen.metrics.intervals import Estimate
from skindualgen.report.figures import Values, figure_svg, forest, histograms
from skindualgen.report.page import Cell, Column, Group, Headline, Outline, Plot, Section, Table, Tile, cell

SHOWN = 12
"""Examples of accepted pairs, and of pairs refused by each score."""

TITLES: Mapping[str, str] = {
    LESION_AREA: "Empty or full mask",
    "self_agreement": "Self-agreement",
    "segmenter_agreement": "Segmenter agreement",
    "mask_typicality": "Mask typicality",
    "class_probability": "Class probability",
    "novelty": "Novelty",
    "sharpness": "Sharpness",
    "saturation": "Saturation",
    "exposure": "Exposure",
}

MEASURES = {"kernel": "kid", "precision": "precision", "recall": "recall", "density": "density", "coverage": "coverage"}
"""Measure of diversity -> its name among the definitions of an evaluation."""


def headlines(results: GateReport) -> list[Headline]:
    """The large figures."""
    shown = [
        Headline(f"{results.accepted.value:.1%}", f"of generated pairs accepted ({_between(results.accepted)})"),
        Headline(
            f"{results.gate.held_back.value:.1%}",
            f"of real pairs that set no threshold ({_between(results.gate.held_back)})",
        ),
    ]
    for row in results.diversity:
        if row.group == "all" and row.measure in ("precision", "recall") and row.after is not None:
            shown.append(Headline(f"{row.after:.2f}", f"{row.measure} of accepted pairs; {row.before:.2f} at random"))
    return shown


def _between(share: Share) -> str:
    return f"{share.low:.1%} to {share.high:.1%}"


def scores_page(application: Application, of_real: Sequence[Verdict]) -> Section:
    """Histograms with thresholds."""
    samples: dict[str, tuple[Values, Values]] = {}
    cuts: dict[str, list[float]] = {}
    for rule in application.gate.file.rules:
        title = TITLES[rule.score]
        samples[title] = score_values(application.verdicts, rule.score), score_values(of_real, rule.score)
        cuts[title] = [cut for cut in (rule.threshold, *rule.of_diagnosis.values()) if cut is not None]
    svg = figure_svg(histograms(samples, bins=28, cuts=cuts), "scores")
    caption = "Generated pairs (filled) and held-out real pairs (line). Left of the dashed line a pair is refused."
    return Section(
        "scores",
        "Scores",
        "What the gate measures of each pair, and the same of real pairs. Right is better, as far as a single pair "
        "can show it. That a score of generated pairs is higher than of real ones is no praise: pictures that are "
        "easier than real ones are read more surely.",
        plots=[Plot(svg, "histograms of the scores", caption)],
        caveats=application.gate.file.caveats,
    )


def reasons_page(results: GateReport) -> Section:
    """How many pairs each score refuses."""
    rules = {rule.score: rule for rule in results.gate.rules}
    rows: list[tuple[str, list[Cell]]] = []
    for each in results.reasons:
        rule = rules.get(each.score)
        cut: Cell = float("nan") if rule is None or rule.threshold is None else rule.threshold
        rows.append(
            (TITLES[each.score], [cut, float(each.refused), float(each.alone), cell(each.share), each.real_share])
        )
    columns = [
        Column("Refused at or below", digits=3),
        Column("Refused", digits=0),
        Column("By nothing else", digits=0),
        Column("Share", digits=3),
        Column("Of real pairs", digits=3),
    ]
    terms = {TITLES[each.score]: each.score for each in results.reasons}
    notes = [
        f"{TITLES[rule.score]} of {name}: {'none' if cut is None else f'{cut:.3f}'}."
        for rule in results.gate.rules
        for name, cut in rule.of_diagnosis.items()
    ]
    note = f"Thresholds of diagnoses with enough real pairs for their own: {' '.join(notes)}" if notes else ""
    return Section(
        "reasons",
        "Reasons",
        "How many pairs each score refuses. A pair may have several reasons.",
        tables=[Table("Score", columns, rows, "Refused pairs", terms)],
        note=note,
    )


def diagnoses_page(results: GateReport) -> Section:
    """Acceptance of each diagnosis, generated and real."""
    real = results.gate.by_diagnosis
    rows: list[tuple[str, list[Cell]]] = [
        ("all", [results.accepted.n, cell(results.accepted), results.gate.real.n, cell(results.gate.real)])
    ]
    for name, share in results.by_diagnosis.items():
        of_real: list[Cell] = [real[name].n, cell(real[name])] if name in real else [cell(None), cell(None)]
        rows.append((name, [share.n, cell(share), *of_real]))
    columns = [
        Column("Generated", digits=0),
        Column("accepted", digits=3),
        Column("Held-out real", digits=0),
        Column("accepted", digits=3),
    ]
    return Section(
        "diagnoses",
        "Acceptance by diagnosis",
        "A gate that refuses one diagnosis more often than another changes the mix of classes, unless replacements are "
        "drawn for each.",
        tables=[Table("Diagnosis", columns, rows, "Accepted pairs")],
    )


def diversity_page(results: GateReport) -> Section:
    """Fidelity and variety, before and after."""
    titles = {measure: DEFINITIONS[name].short for measure, name in MEASURES.items()}
    columns, rows = [Column("n", digits=0)], []
    for measure, name in MEASURES.items():
        digits = 4 if measure == "kernel" else 2
        columns.append(Column(titles[measure], name, digits=digits))
    for group in dict.fromkeys(row.group for row in results.diversity):
        of_group = [row for row in results.diversity if row.group == group]
        size = float(of_group[0].n)
        rows.append((group, [size, *(cell(row.estimate("after")) for row in of_group)]))
        rows.append(("– at random", [size, *(cell(row.estimate("before")) for row in of_group)]))
    panels: dict[str, dict[str, tuple[Estimate | None, Estimate | None]]] = {}
    for row in results.diversity:
        panels.setdefault(titles[row.measure], {})[row.group] = row.estimate("after"), row.estimate("before")
    svg = figure_svg(forest(panels), "diversity")
    caption = (
        "Dots: accepted pairs, with 95 % intervals. Bands: as many pairs of each diagnosis at random, over "
        f"{DRAWS} draws. Features of {results.extractor}."
    )
    n_real = next(row.n_real for row in results.diversity)
    return Section(
        "diversity",
        "What the gate does to variety",
        f"Accepted pairs next to as many random ones of the same diagnoses, both against {n_real} real photographs. A "
        "gate raises precision if it refuses pictures unlike real ones, and lowers recall and coverage if it refuses "
        "what is rare.",
        plots=[Plot(svg, "fidelity and variety before and after", caption)],
        tables=[Table("Group", columns, rows, "Accepted, and under it as many at random")],
        caveats=sorted({f"{row.group}: {row.caveat}." for row in results.diversity if row.caveat}),
    )


def refused_page(application: Application) -> Section:
    """The lowest of each score."""
    groups = []
    names = [LESION_AREA, *(rule.score for rule in application.gate.file.rules)]
    for name in names:
        found = [i for i, verdict in enumerate(application.verdicts) if name in refused_by(verdict)]
        worst = sorted(found, key=lambda i: application.verdicts[i].scores[name])[:SHOWN]
        if worst:
            title = f"{TITLES[name]}: {len(found)}"
            groups.append(Group(title, [_tile(application, i, name) for i in worst]))
    lead = "Of each score, the lowest first." if groups else "No pair was refused."
    return Section("refused", "Refused pairs", lead, groups=groups, badge_label="the score")


def accepted_page(application: Application) -> Section:
    """The first of each diagnosis."""
    groups = []
    diagnoses = np.asarray(application.diagnoses, dtype=object)
    for name in sorted({label for label in application.diagnoses if label is not None}):
        chosen = np.flatnonzero(application.kept & (diagnoses == name))[:SHOWN]
        if len(chosen):
            groups.append(Group(name, [_tile(application, int(i), None) for i in chosen]))
    return Section(
        "accepted", "Accepted pairs", "The first of each diagnosis in the folder, not chosen.", groups=groups
    )


def _tile(application: Application, index: int, score: str | None) -> Tile:
    record, verdict = application.pairs[index], application.verdicts[index]
    image, mask = open_pair(application.pairs.root, record)
    facts = {"Pair": record.isic_id, "Diagnosis": record.diagnosis or "not named"}
    facts |= {TITLES[name]: f"{value:.3g}" for name, value in verdict.scores.items()}
    if verdict.reasons:
        facts["Refused"] = "; ".join(verdict.reasons)
    badge = f"{verdict.scores[score]:.2f}" if score is not None else ""
    return Tile(image, f"pair {record.isic_id}", [Outline(mask, "mask of the pair")], badge=badge, facts=facts)
